"""A notebook in JupyterLab itself: its cells run, and a slider changes its figure."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from visits import PATIENCE, ROOT

CHAPTER = "sliders.ipynb"
SLIDER = """from matplotlib import pyplot as plt

from edition.widgets import slider


def draw(height):
    figure, axes = plt.subplots()
    axes.bar([0], [float(height)])
    axes.set_ylim(0, 3)
    return figure


slider(draw, "height", ["1", "2", "3"], alt="a bar of height {}".format)"""
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}


def one_slider(folder: Path) -> None:
    """Write a notebook with one slider, in the kernel that the chapters name."""
    chapter = nbformat.read(ROOT / "book" / "02_toy_setup.ipynb", as_version=4)
    chapter.cells = [nbformat.v4.new_code_cell(SLIDER)]
    nbformat.write(chapter, folder / CHAPTER)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    """Return when the server answers; fail with its log where it ends or stays silent."""
    limit = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < limit and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"expected JupyterLab at {address.partition('?')[0]}, got no answer\n{log.read_text()}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """A running JupyterLab on a folder with the one chapter; the chapter's address."""
    folder, home = tmp_path_factory.mktemp("chapters"), tmp_path_factory.mktemp("home")
    one_slider(folder)
    (home / "overrides.json").write_text(json.dumps(SETTINGS))
    port, token, log = free_port(), secrets.token_hex(16), home / "log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.app_settings_dir={home}"]
    own = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"IPYTHONDIR": str(home), "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as said:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stdout=said, stderr=said)
        try:
            wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
            yield f"http://127.0.0.1:{port}/lab/tree/{CHAPTER}?token={token}"
        finally:
            server.terminate()  # ends its kernels too
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def test_a_slider_changes_the_figure(browser, lab):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(lab)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before that, the cells would not run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        picture = page.locator(".frames img:not([hidden])")
        picture.wait_for()
        assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        shown = [(picture.get_attribute("alt"), page.locator(".frames output").inner_text())]
        page.get_by_role("slider").press("ArrowRight")
        page.locator(".frames img[alt='a bar of height 2']").wait_for()
        shown.append((picture.get_attribute("alt"), page.locator(".frames output").inner_text()))
        assert shown == [("a bar of height 1", "1"), ("a bar of height 2", "2")]
