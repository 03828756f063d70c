"""The viewer and the report in a browser: no error, no request, the slider changes the picture, the wipe moves."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.files import ball, write_image
from helpers.models import FIXTURE
from longigen import View, generate, report, view
from longigen.reporting.server import ViewerServer
from longigen.reporting.viewer import viewer_page

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser with a new, empty profile, or skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (PyPI) is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        context = started.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("profile")), executable_path=CHROMIUM, args=list(FLAGS), headless=True
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def generated(browser: Any, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with generated visits of two subjects; where there is no browser, nothing is generated."""
    folder = tmp_path_factory.mktemp("made") / "generated"
    generate(FIXTURE, folder, data=manifest, setting="single", subjects=["s0", "s1"], progress=False)
    return folder


class Shown:
    """A page with a viewer in a browser, what it asked for and what went wrong."""

    def __init__(self, browser: Any, address: str) -> None:
        self.address = address
        self.page, self.errors, self.requests = browser.new_page(), [], []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.wait("[data-ready]")

    @property
    def state(self) -> str:
        """Which subject, visit and comparison are drawn, and whether the difference is."""
        return str(self.page.get_attribute("#viewer", "data-shown"))

    @property
    def picture(self) -> bytes:
        self.page.wait_for_timeout(300)
        return self.page.locator(".canvases").screenshot()

    def move(self, part: str, value: float) -> None:
        """Move a slider."""
        self.page.locator(f'[data-part="{part}"]').evaluate(
            "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
        )

    def wait(self, selector: str) -> None:
        """Wait until the viewer matches a CSS selector; the page's policy lets no script of others run."""
        self.page.wait_for_selector(f"#viewer{selector}", timeout=240_000)

    def assert_works(self) -> None:
        """Move the wipe and the slider over visits, draw the difference, and check the picture each time."""
        before, at_half = self.state, self.picture
        self.move("wipe", 90)
        assert self.page.get_attribute("#viewer", "data-wipe") == "0.9"
        wiped = self.picture
        assert wiped != at_half
        self.move("stop", 0)
        self.wait(f':not([data-shown="{before}"])')
        assert self.picture != wiped
        self.move("stop", 1)
        self.page.check('[data-part="overlay"]')
        self.wait('[data-shown$="true"]')
        assert self.errors == []

    def asked_elsewhere(self) -> list[str]:
        """Return the addresses that it asked for, but its own and its contents."""
        return [url for url in self.requests if url != self.address and not url.startswith(("data:", "blob:"))]


def test_viewer_in_a_browser(browser: Any, tmp_path: Path) -> None:
    affine = np.diag([2.0, 2, 3, 1])
    paths = [
        write_image(tmp_path / f"{number}.nii.gz", ball((24, 26, 20), 0.3 + 0.15 * number), affine)
        for number in range(2)
    ]
    shown = Shown(browser, view(paths, progress=False).save(tmp_path / "view.html").as_uri())
    shown.assert_works()
    assert shown.asked_elsewhere() == []


def test_report_in_a_browser(browser: Any, generated: Path, manifest: Path, tmp_path: Path) -> None:
    written = report(generated, tmp_path / "report.html", data=manifest, progress=False)
    shown = Shown(browser, written.path.as_uri())
    shown.assert_works()
    before = shown.picture
    shown.page.select_option('[data-part="subject"]', index=1)
    shown.wait('[data-shown^="1 "]')
    assert shown.picture != before
    loaded = "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
    assert set(shown.page.evaluate(loaded)) == {True}
    assert shown.errors == []
    assert shown.asked_elsewhere() == []


def test_served_viewer_in_a_browser(browser: Any, generated: Path, manifest: Path) -> None:
    """Volumes come from the server that gave the page, each as it is shown, and nothing from elsewhere."""
    opened = View.open([generated], data=str(manifest))
    with ViewerServer(viewer_page(opened.scenes, opened.title, inside=False), opened.volumes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            shown = Shown(browser, server.url)
            at_first = len(shown.asked_elsewhere())
            shown.assert_works()
        finally:
            server.shutdown()
    asked = shown.asked_elsewhere()
    assert 0 < at_first < len(asked)
    assert all(url.startswith(f"{server.url}volumes/") for url in asked)
