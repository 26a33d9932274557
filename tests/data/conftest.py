"""A server, patience and a disk that suit a test; nothing here reaches beyond this machine."""

import shutil
from collections import namedtuple

import pytest
from local_server import LocalServer

from data_scripts import download


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "ATTEMPTS", 3)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    running = LocalServer()
    yield running
    running.close()


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes the disk says are free."""
    usage = namedtuple("usage", "total used free")
    return lambda n: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - n, n))
