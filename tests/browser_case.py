"""A page of `hyperhpc view`, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli_case import Program, program

LIMIT_S = 60.0

_FIND = """
const [selector, text] = arguments;
const find = (root) => {
  for (const node of root.querySelectorAll("*")) {
    if (node.matches(selector) && node.textContent.includes(text)) return node;
    const inner = node.shadowRoot && find(node.shadowRoot);
    if (inner) return inner;
  }
  return null;
};
return find(document);
"""
_PLACE = """
const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("map"));
const box = view.canvas_view.el.getBoundingClientRect();
return [box.left + view.frame.x_scale.compute(arguments[0]),
        box.top + view.frame.y_scale.compute(arguments[1])].map(Math.round);
"""


@dataclass
class Served:
    """A running `hyperhpc view`."""

    process: subprocess.Popen[str]
    url: str

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Exit status, and what it printed since it answered."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, out, err


@contextmanager
def served(*words: str | Path, **variables: str) -> Iterator[Served]:
    """Start the command in this environment; it is killed if a test leaves it running."""
    with Program(
        program("view", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("page: http://127.0.0.1:"), process.communicate()
            yield Served(process, line.removeprefix("page: ").strip())
        finally:
            process.kill()


def wait_for(what: Callable[[], Any]) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (answer := what()):
        assert time.monotonic() < deadline, "the answer stays empty"
        time.sleep(0.05)
    return answer


@dataclass
class Browser:
    """A browser on one page, asked by its Bokeh models, used by mouse."""

    driver: Any
    downloads: Path

    def open(self, url: str) -> None:
        """Open an address and wait for the first picture."""
        self.driver.get(url)
        ready = "return !!window.Bokeh && !!Bokeh.documents[0]?.get_model_by_name('status')?.text"
        wait_for(lambda: self.driver.execute_script(ready))

    def ask(self, model: str, what: str) -> Any:
        """The value of an expression of ``m``, the model of this name."""
        return self.driver.execute_script(
            f"const m = Bokeh.documents[0].get_model_by_name(arguments[0]); return {what}", model
        )

    def find(self, selector: str, text: str = "") -> Any:
        """An element, wherever it is nested."""
        return wait_for(lambda: self.driver.execute_script(_FIND, selector, text))

    def choose(self, title: str) -> None:
        """Choose a layer by its name in the list."""
        from selenium.webdriver.support.select import Select

        Select(self.find("select")).select_by_visible_text(title)

    def _at(self, x: float, y: float) -> Any:
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionChains(self.driver)
        assert isinstance(actions.w3c_actions, ActionBuilder)
        actions.w3c_actions.pointer_action.move_to_location(
            *self.driver.execute_script(_PLACE, x, y)
        )
        return actions

    def click_map(self, x: float, y: float) -> None:
        """Click a place of the map."""
        self._at(x, y).click().perform()

    def zoom_in(self, x: float, y: float, times: int) -> None:
        """Turn the wheel over a place of the map."""
        from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

        for _ in range(times):
            left, top = self.driver.execute_script(_PLACE, x, y)
            origin = ScrollOrigin.from_viewport(left, top)
            self._at(x, y).scroll_from_origin(origin, 0, -240).perform()

    def drag(self, x: float, y: float, right: int, down: int) -> None:
        """Drag a place of the map by so many pixels of the screen."""
        actions = self._at(x, y).click_and_hold()
        actions.move_by_offset(right, down).release().perform()

    def requests(self) -> list[str]:
        """Addresses requested since the last call, by HTTP or websocket."""
        asked = []
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                asked.append(event["params"]["request"]["url"])
            elif event["method"] == "Network.webSocketCreated":
                asked.append(event["params"]["url"])
        return asked

    def errors(self) -> list[str]:
        """Errors in the console of the page."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Debian's Chromium without a screen; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        pytest.skip("no Chromium: apt-get install chromium chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--window-size=1440,900", f"--user-data-dir={folder / 'profile'}",
    ):  # fmt: skip
        options.add_argument(word)
    downloads = folder / "downloads"
    downloads.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()
