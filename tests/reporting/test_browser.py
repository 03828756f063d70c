"""The viewer in a browser: no error, no request, the slider changes the picture, the wipe moves."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.files import ball, write_image
from longigen import view

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Return a browser with a new, empty profile, or skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (PyPI) is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=CHROMIUM, args=list(FLAGS), headless=True
        )
        yield context
        context.close()


def test_viewer_in_a_browser(browser: Any, tmp_path: Path) -> None:
    affine = np.diag([2.0, 2, 3, 1])
    paths = [
        write_image(tmp_path / f"{number}.nii.gz", ball((24, 26, 20), 0.3 + 0.15 * number), affine)
        for number in range(2)
    ]
    file = view(paths, progress=False).save(tmp_path / "view.html")
    page, errors, requests = browser.new_page(), [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#viewer[data-ready]", timeout=240_000)

    def picture() -> bytes:
        page.wait_for_timeout(300)
        return page.locator(".canvases").screenshot()

    def move(part: str, value: float) -> None:
        page.locator(f'[data-part="{part}"]').evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
        )

    before = page.get_attribute("#viewer", "data-shown")
    at_half = picture()
    move("wipe", 90)
    assert page.get_attribute("#viewer", "data-wipe") == "0.9"
    wiped = picture()
    assert wiped != at_half
    move("stop", 0)
    page.wait_for_function(f"document.getElementById('viewer').dataset.shown !== '{before}'")
    assert picture() != wiped
    page.check('[data-part="overlay"]')
    page.wait_for_function("document.getElementById('viewer').dataset.shown.endsWith('true')")
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [file.as_uri()]
