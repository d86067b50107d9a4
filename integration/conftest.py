"""Servers for tests, stopped at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Server


@pytest.fixture
def server(tmp_path):
    """A running server on the event clock, with nothing committed."""
    running = Server(tmp_path).start()
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path):
    """Servers over folders of their own, not started yet; stopped at the end."""
    made = []

    def make(name="server", **settings):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made.append(Server(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
