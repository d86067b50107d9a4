"""Every example of the README, the guides and the semantics runs, in the order of its page, each page with a server.

A `python` block whose first line is a comment with a file name is that file; any other runs as a script. In a `console`
block the lines after `$ ` run in a shell, and what stands below one must appear in what it prints (`…` stands for
anything). A `toml` block is a configuration that the server must start with.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import Server

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "semantics.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"^# ([\w./-]+\.\w+)$")
# What the test itself has done: it has a server, and a `thyme` command.
DONE_ALREADY = ("make ", "thyme serve", ". .venv/")
QUESTIONS = ("thyme query", "thyme lookup", "thyme explain", "curl ")


class Page:
    """One page's folder, server and shell."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.scripts = 0
        commands = folder / "bin"
        commands.mkdir()
        # As in a checkout: stubs are generated from it.
        (folder / "proto").symlink_to(ROOT / "proto")
        for name, arguments in (("thyme", "-m thyme"), ("python", ""), ("pytest", "-m pytest")):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
            command.chmod(0o755)
        self.env = {
            **server.env,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
        }

    def python(self, text: str) -> None:
        named = FILE_NAME.match(text.split("\n", 1)[0])
        if named:
            (self.folder / named[1]).write_text(text, encoding="utf-8")
            return
        self.scripts += 1
        script = self.folder / f"script_{self.scripts}.py"
        # The addresses of clients that have none of the environment's: Flight and plain HTTP.
        script.write_text(self.readdressed(text), encoding="utf-8")
        done = self.shell(f"python {script.name}")
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"

    def console(self, text: str) -> None:
        for command, expected in commands_of(text):
            if command.startswith(DONE_ALREADY):
                continue
            deadline = time.monotonic() + 20
            while True:
                done = self.shell(self.readdressed(command))
                missing = [line for line in expected if not appears(line, done.stdout + done.stderr)]
                good = done.returncode == 0 and not missing
                # An event is seen some milliseconds after it was taken: a question may be early.
                if good or not command.rpartition("| ")[2].startswith(QUESTIONS) or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
            printed = f"$ {command}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, printed
            assert not missing, f"{printed}\nwithout {missing}"

    def toml(self, text: str) -> None:
        """A server of its own starts with it, on free ports."""
        (self.folder / "page.toml").write_text(text, encoding="utf-8")
        other = self.folder / "configured"
        other.mkdir(exist_ok=True)
        configured = Server(other)
        try:
            configured.start("--config", str(self.folder / "page.toml"))
        finally:
            configured.stop()

    def readdressed(self, text: str) -> str:
        text = text.replace("127.0.0.1:8081", self.server.queries).replace("127.0.0.1:8080", self.server.control)
        assert ":8081" not in text and ":8080" not in text, f"an address that is not the server's: {text}"
        return text

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=120,
        )


def commands_of(text: str) -> list[tuple[str, list[str]]]:
    """Commands, each with the lines shown below it. A command goes on after a backslash."""
    found: list[tuple[str, list[str]]] = []
    continues = False
    for line in text.splitlines():
        if continues:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
        continues = (continues or line.startswith("$ ")) and line.endswith("\\")
    return found


def appears(expected: str, printed: str) -> bool:
    """Whatever the width of columns and the way lines break."""
    pieces = [re.escape(" ".join(piece.split())) for piece in expected.split("…")]
    return re.search(".*".join(pieces), " ".join(printed.split())) is not None


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_the_examples_of_a_page_run(path, tmp_path):
    server = Server(tmp_path, clock="wall").start()
    try:
        page = Page(tmp_path, server)
        run = {"python": page.python, "console": page.console, "toml": page.toml}
        ran = 0
        for kind, text in FENCE.findall(path.read_text(encoding="utf-8")):
            if kind in run:
                run[kind](text)
                ran += 1
        assert ran > 0 or "no example" in path.read_text(encoding="utf-8"), "a page without an example"
    finally:
        server.stop()
