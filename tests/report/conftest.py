"""For the tests of report.html in a real browser, where it is opened from disk with the network off.

Whatever the page asks for, complains of on the console, or pops up fails the test that opened it.
"""

import base64
import shutil

import numpy as np
import pytest

from tests.report import made_up


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; tests that ask for it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def on_screen(browser):
    """A function (tab, spots) -> the colours (n, 3) that a screenshot of the window has at these places (n, 2)."""
    reader = browser.new_page()

    def read(tab, spots):
        return np.array(reader.evaluate(
            """async ([png, spots]) => {
                const image = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
                const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
                canvas.drawImage(image, 0, 0);
                return spots.map(spot => [...canvas.getImageData(...spot.map(Math.round), 1, 1).data.slice(0, 3)]);
            }""", [base64.b64encode(tab.screenshot()).decode(), np.asarray(spots).tolist()]))
    return read


@pytest.fixture(scope="module")
def days():
    """A made-up run of five days."""
    return made_up.run()


@pytest.fixture(scope="module")
def uri(days, tmp_path_factory):
    """The address of its page."""
    return made_up.write(tmp_path_factory.mktemp("page") / "report.html", days)
