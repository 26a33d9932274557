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

import nbformat
import pytest
from visits import PATIENCE, ROOT

CHAPTER = "sliders.ipynb"
SLIDER = """from matplotlib import pyplot as plt
from edition.widgets import slider
slider(lambda width: plt.figure(figsize=(float(width), 1)), "width", ["1", "2", "3"], alt="width of {}".format)"""
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}


def wait_for(address: str, server: subprocess.Popen) -> None:
    """Return when the server answers; fail where it ends or stays silent. What it says pytest shows."""
    limit = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            running = server.poll() is None and time.monotonic() < limit
            assert running, f"expected JupyterLab at {address.partition('?')[0]}, got no answer"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """A running JupyterLab on a folder with a notebook of one slider, in the chapters' kernel; its address."""
    folder, home = tmp_path_factory.mktemp("chapters"), tmp_path_factory.mktemp("home")
    chapter = nbformat.read(ROOT / "book" / "02_toy_setup.ipynb", as_version=4)
    chapter.cells = [nbformat.v4.new_code_cell(SLIDER)]
    nbformat.write(chapter, folder / CHAPTER)
    (home / "overrides.json").write_text(json.dumps(SETTINGS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port, token = probe.getsockname()[1], secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.app_settings_dir={home}"]
    own = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"IPYTHONDIR": str(home), "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, cwd=folder, env={**os.environ, **own})
    try:
        wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server)
        yield f"http://127.0.0.1:{port}/lab/tree/{CHAPTER}?token={token}"
    finally:
        server.terminate()  # ends its kernels too
        server.wait(timeout=30)


def test_a_slider_changes_the_figure(browser, lab):
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(lab)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before that, the cells would not run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        picture, output = page.locator(".frames img:not([hidden])"), page.locator(".frames output")
        picture.wait_for()
        assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        assert (picture.get_attribute("alt"), output.inner_text()) == ("width of 1", "1")
        page.get_by_role("slider").press("ArrowRight")
        page.locator(".frames img[alt='width of 2']:not([hidden])").wait_for()
        assert output.inner_text() == "2" and picture.count() == 1
