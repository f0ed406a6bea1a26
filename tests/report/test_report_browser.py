"""report.html in a real browser: every picture is there, and it does what one clicks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser_case import Browser, browser, wait_for
from run_case import RunCase

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("report")) as found:
        yield found


@pytest.fixture
def page(opened: Browser, run_case: RunCase) -> Browser:
    opened.driver.get((run_case.out / "report.html").as_uri())
    wait_for(lambda: ask(opened, "document.readyState === 'complete'"))
    return opened


def ask(page: Browser, what: str) -> Any:
    return page.driver.execute_script(f"return {what}")


def screenshot(page: Browser, path: Path) -> np.ndarray:
    """Colours (y, x, 3) of what is seen."""
    page.driver.save_screenshot(str(path))
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.smoke
def test_report__shows_all_pictures_and_asks_nobody(page: Browser) -> None:
    page.requests()  # those of the browser's own first page
    page.driver.refresh()
    widths = ask(page, "[...document.querySelectorAll('figure img')].map(i => i.naturalWidth)")
    assert len(widths) > 5
    assert min(widths) > 300
    asked = [address for address in page.requests() if not address.startswith("data:")]
    assert asked
    assert all(address.startswith("file:") for address in asked), asked
    assert page.errors() == []


def test_report__keeps_its_contents_in_sight(page: Browser) -> None:
    page.driver.execute_script("document.getElementById('decisions').scrollIntoView()")
    wait_for(lambda: ask(page, "document.querySelector('nav a.here').hash") == "#decisions")
    top = ask(page, "document.querySelector('nav ol').getBoundingClientRect().top")
    assert 0 <= top < 100
    wide = ask(page, "document.documentElement.scrollWidth <= window.innerWidth")
    assert wide, "the page is wider than the window"


def test_report__fits_a_telephone_with_its_contents_in_sight(page: Browser) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.driver.refresh()
        assert ask(page, "document.documentElement.scrollWidth") == 390
        page.driver.execute_script("document.getElementById('decisions').scrollIntoView()")
        here = "document.querySelector('nav a.here')"
        wait_for(lambda: ask(page, f"{here}.hash") == "#decisions")
        box = ask(page, f"{here}.getBoundingClientRect().toJSON()")
        assert 0 <= box["top"] < box["bottom"] < 60
        assert 0 <= box["left"] < box["right"] < 390
        top = ask(page, "document.querySelector('#decisions h2').getBoundingClientRect().top")
        assert top >= box["bottom"], "the contents lie on the heading"
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_report__marks_the_section_that_is_read(page: Browser) -> None:
    here = "[...document.querySelectorAll('nav a.here')].map(a => a.hash)"
    assert ask(page, here) == ["#scene"]
    for name in ("decisions", "indices"):
        page.driver.execute_script(f"document.getElementById('{name}').scrollIntoView()")
        wait_for(lambda name=name: ask(page, here) == [f"#{name}"])
    page.driver.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    wait_for(lambda: ask(page, here) == ["#methods"])
    page.driver.execute_script("scrollTo(0, 0)")
    wait_for(lambda: ask(page, here) == ["#scene"])


def test_report__enlarges_a_picture_on_click(page: Browser) -> None:
    button = page.driver.find_element("css selector", ".zoom")
    page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    before = ask(page, "document.querySelector('.zoom img').getBoundingClientRect().width")
    button.click()
    wait_for(lambda: ask(page, "document.getElementById('lightbox').open"))
    box = "document.querySelector('#lightbox img')"
    assert ask(page, f"{box}.src === document.querySelector('.zoom img').src")
    assert ask(page, f"{box}.getBoundingClientRect().width") > before
    page.driver.find_element("css selector", "#lightbox img").click()
    natural = f"{box}.naturalWidth / devicePixelRatio"
    assert ask(page, f"{box}.getBoundingClientRect().width") == pytest.approx(
        ask(page, natural), rel=0.02
    )


def test_report__sorts_tables_by_number(page: Browser) -> None:
    head = "document.querySelector('#table-areas-lloyd thead').rows[0].cells"
    values = (
        "[...document.querySelector('#table-areas-lloyd').tBodies[0].rows]"
        ".map(row => parseFloat(row.cells[1].dataset.value))"
    )
    before = ask(page, values)
    page.driver.execute_script(f"{head}[1].click()")
    assert ask(page, values) == sorted(before)
    page.driver.execute_script(f"{head}[1].click()")
    assert ask(page, values) == sorted(before, reverse=True)


def test_report__is_light_and_dark(page: Browser, tmp_path: Path) -> None:
    seen = []
    for theme in ("light", "dark"):
        page.driver.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        seen.append(screenshot(page, tmp_path / f"{theme}.png"))
    corners = [picture[-5, 5].mean() for picture in seen]
    assert corners[0] > 200, corners
    assert corners[1] < 60, corners
    # text, pictures: not an empty page
    assert all(np.unique(picture.reshape(-1, 3), axis=0).shape[0] > 50 for picture in seen)
