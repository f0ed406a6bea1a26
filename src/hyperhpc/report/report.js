(() => {
  "use strict";
  const root = document.documentElement;
  const wanted = new URLSearchParams(location.search).get("theme");
  const saved = () => { try { return localStorage.getItem("hyperhpc-theme"); } catch { return null; } };
  const theme = wanted || saved();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  document.getElementById("theme").addEventListener("click", () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    try { localStorage.setItem("hyperhpc-theme", root.dataset.theme); } catch { /* a file: page may not */ }
  });

  // Sort a table by a column; numbers by their exact value, the rest as text. Feet stay.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[at].dataset.value ?? row.cells[at].textContent.trim();
        const rows = [...table.tBodies[0].rows];
        const isNumeric = rows.some((row) => "value" in row.cells[at].dataset);
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (isNumeric) {
            const [p, q] = [parseFloat(x), parseFloat(y)];
            if (isNaN(p) || isNaN(q)) return isNaN(p) - isNaN(q);
            return down ? q - p : p - q;
          }
          return down ? y.localeCompare(x) : x.localeCompare(y);
        });
        table.tBodies[0].append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (e) => {
        if (e.key === "Enter" || e.key === " ") { e.preventDefault(); sort(); }
      });
    });
  }

  // A click enlarges a figure to the window, a second click to its own pixels.
  const box = document.getElementById("lightbox");
  const image = box.querySelector("img");
  for (const button of document.querySelectorAll(".zoom")) {
    button.addEventListener("click", () => {
      const small = button.querySelector("img");
      image.src = small.src;
      image.alt = small.alt;
      box.querySelector("p").textContent = button.parentElement.querySelector("figcaption").textContent;
      box.classList.remove("full");
      box.showModal();
    });
  }
  image.addEventListener("click", (e) => { e.stopPropagation(); box.classList.toggle("full"); });
  box.addEventListener("click", () => box.close());

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).innerText;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(document.getElementById(button.dataset.copy));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
    });
  }

  // The section that is read: the last one begun above the upper fifth of the window.
  const list = document.querySelector("nav ol");
  const links = [...list.querySelectorAll("a")];
  const section = (link) => document.getElementById(link.hash.slice(1));
  const follow = () => {
    const isAtEnd = scrollY > 0 && innerHeight + scrollY >= root.scrollHeight - 2;
    const begun = links.filter((a) => section(a)?.getBoundingClientRect().top < innerHeight / 5);
    const here = (isAtEnd ? links : begun).at(-1) ?? links[0];
    for (const a of links) a.classList.toggle("here", a === here);
    list.scrollLeft = here.closest("nav ol > li").offsetLeft - 48; // moves only on a narrow screen
  };
  addEventListener("scroll", follow, { passive: true });
  addEventListener("resize", follow);
  follow();

  addEventListener("beforeprint", () => {
    for (const d of document.querySelectorAll("details")) d.open = true;
  });
})();
