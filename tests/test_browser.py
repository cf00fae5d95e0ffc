"""The chapters' widgets in real JupyterLab, in headless Chromium: run a chapter, move its sliders, look at the picture.

`make test-browser` installs what this needs and runs it. By hand, one chapter: `pytest -m browser -k 01_`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from ibmd_minimal.exercises.masters import without_outputs

pytestmark = pytest.mark.browser

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SMALL = "one_explorer.ipynb"
CELL = """
from ibmd_minimal import widgets

def draw(figure, height, colour):
    figure.subplots().plot([0, height], color=colour)

height = widgets.slider(1, 0, 2, 0.1, "height")
colour = widgets.choice("red", ["red", "blue"], "colour")
widgets.Explorer(draw, {"height": height, "colour": colour}, play="height").show(height=2)
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
RUN_MS, STEP_MS = 600_000, 60_000

# Errors of the console that JupyterLab writes in any notebook, with a reason each; all others fail the test.
BENIGN: tuple[str, ...] = ()

ALL_RAN = """() => {
    const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(p => p.textContent);
    const failed = document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
    return failed !== null || (prompts.length > 0 && prompts.every(text => /[0-9]/.test(text)));
}"""
PICTURE = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return bytes.reduce((sum, byte) => (31 * sum + byte) % 4294967291, bytes.length);
}"""


def has_widgets(path: Path) -> bool:
    """Does a code cell of this notebook make a widget to be moved?"""
    cells = nbformat.read(path, 4).cells
    return any(re.search(r"\bwidgets\.\w|\binteract\(", cell.source) for cell in cells if cell.cell_type == "code")


CHAPTERS = [SMALL, *sorted(path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb") if has_widgets(path))]


def chromium(playwright) -> str:
    """A browser's path, from PATH or as playwright installed it; skips where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
    if not Path(found).exists():
        pytest.skip(f"no browser is found, neither {', '.join(BROWSERS)} nor playwright's own; try make test-browser")
    return found


def fresh_copy(folder: Path) -> None:
    """The notebooks without their outputs, so that no stored picture can be taken for a new one, and a small one."""
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        nbformat.write(without_outputs(nbformat.read(path, 4)), folder / path.name)
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    small.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(small, folder / SMALL)


SETTINGS = {  # every cell is rendered, seen or not; no question about news lies over the notebook
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
}


def own_settings(folder: Path) -> dict[str, str]:
    """An environment in which JupyterLab reads and writes no settings but these."""
    for name, values in SETTINGS.items():
        path = folder / "lab" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return os.environ | places | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "lab"), "IPYTHONDIR": str(folder / "ipython")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """A JupyterLab of this environment on a free port, on a copy of the notebooks; yields its address, `{}` a path."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed; try make test-browser")
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("jupyter")
    fresh_copy(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", "--ServerApp.port_retries=0",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None"]  # fmt: skip
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, env=own_settings(home), stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, home / "log")
        yield f"http://127.0.0.1:{port}/{{}}?reset&token={token}"  # reset: no notebook of the test before is open
    finally:
        stop(server)


def wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    """Until the server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")


def stop(server: subprocess.Popen) -> None:
    """End the server, which ends its kernels; what is left of its process group after that is killed."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; try make test-browser")
    with playwright.sync_playwright() as running:
        chrome = running.chromium.launch(executable_path=chromium(running), args=QUIET)
        yield chrome
        chrome.close()


def end_kernels(lab: str) -> None:
    """A chapter's kernel would otherwise keep its memory until the last test."""
    with urllib.request.urlopen(lab.format("api/kernels")) as answer:
        kernels = json.load(answer)
    for kernel in kernels:
        address = lab.format(f"api/kernels/{kernel['id']}")
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()


def run_all(page, address: str) -> None:
    """Open a notebook and run it to its end or its first error."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=STEP_MS)
    page.get_by_text("| Idle").first.wait_for(timeout=STEP_MS)  # before, Run asks for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ALL_RAN, timeout=RUN_MS, polling=500)
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == 0, errors.first.inner_text()


def changed(page, look, before: object) -> bool:
    """Does what `look` finds differ from `before`, soon?"""
    for _ in range(STEP_MS // 250):
        if look() != before:
            return True
        page.wait_for_timeout(250)
    return False


def drag(page, widget) -> None:
    """The first slider of a widget, moved by three strokes of an arrow key, changes the picture."""
    handle, image = widget.locator(".noUi-handle").first, widget.locator("img").first
    image.wait_for(timeout=STEP_MS)
    before = image.evaluate(PICTURE)
    at_end = float(handle.get_attribute("aria-valuenow")) >= float(handle.get_attribute("aria-valuemax"))
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    assert changed(page, lambda: image.evaluate(PICTURE), before), "the slider moved, the picture did not"


def play(page, widget) -> None:
    """Play moves the picture, and pause stops it."""
    buttons, image = widget.locator(".widget-play button"), widget.locator("img").first
    if not buttons.count():
        return
    before = image.evaluate(PICTURE)
    buttons.first.click()
    assert changed(page, lambda: image.evaluate(PICTURE), before), "play was pressed, the picture stays"
    buttons.first.click()
    page.wait_for_timeout(2000)
    resting = image.evaluate(PICTURE)
    page.wait_for_timeout(1500)
    assert image.evaluate(PICTURE) == resting, "pause was pressed, the picture moves"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sliders_move_the_pictures_of_a_chapter(lab, browser, chapter, tmp_path):
    page, errors = browser.new_page(viewport={"width": 1300, "height": 1000}), []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda problem: errors.append(str(problem)))
    try:
        run_all(page, lab.format(f"lab/tree/{chapter}"))
        sliders = page.locator(".jp-OutputArea-child:has(.noUi-handle):has(img)")
        outer = [one for one in sliders.all() if one.evaluate("e => !e.parentElement.closest('.jp-OutputArea-child')")]
        shown = outer or page.locator(".ibmd-pad").count()
        assert shown, "the chapter ran, and shows neither a slider with a picture nor a pad"
        for widget in outer:
            drag(page, widget)
            play(page, widget)
    finally:
        page.screenshot(path=tmp_path / "page.png")
        page.close()
        end_kernels(lab)
    errors = [text for text in errors if not any(known in text for known in BENIGN)]
    assert not errors, errors
