"""A real server for a test: `thyme serve` in a directory of its own, on free ports, killed and started at will."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from commands import Command, run_command
from thyme.client import Client

SOAK = "THYME_SOAK" in os.environ


def wait_until(condition: Callable[[], object], timeout: float = 60) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def ports() -> range:
    """Those this process may take for servers: below the ports that the system gives to outgoing connections, above
    those of `tools/free_ports.py`. The processes of a parallel run have ranges of their own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = 18_000 + 1_500 * (worker % 8)
    return range(start, start + 1_500)


def free_addresses(count: int) -> list[str]:
    """Loopback addresses nobody listens on."""
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        found = socket.socket()
        with contextlib.suppress(OSError):
            found.bind(("127.0.0.1", random.choice(ports())))
            sockets.append(found)
    addresses = [f"127.0.0.1:{found.getsockname()[1]}" for found in sockets]
    for found in sockets:
        found.close()
    return addresses


class Server:
    """`thyme serve` over `directory/data`; commands run in `directory` and talk to it."""

    def __init__(self, directory: Path, *, clock: str = "event", env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.control, self.queries = free_addresses(2)
        self.env = {
            **os.environ,
            "THYME_BASE_URL": f"http://{self.queries}",
            "THYME_CONTROL_URL": f"http://{self.control}",
            "THYME_SERVER__CLOCK": clock,
            **(env or {}),
        }
        self.process: Command | subprocess.Popen[bytes] | None = None
        self.is_killed = False

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    def arguments(self, *arguments: str) -> tuple[str, ...]:
        addresses = ("--control-addr", self.control, "--query-addr", self.queries)
        return ("serve", "--data-dir", "data", *addresses, *arguments)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "thyme", *self.arguments(*arguments)]

    def launch(self, *arguments: str) -> None:
        """Starts the process and waits for nothing."""
        with open(self.log_file, "ab") as log, open(os.devnull, "rb") as nothing:
            self.process = self.begin(arguments, stdin=nothing, stdout=log, stderr=log)
        self.is_killed = False

    def begin(self, arguments: tuple[str, ...], **files: IO) -> Command | subprocess.Popen[bytes]:
        return Command(self.arguments(*arguments), cwd=self.directory, env=self.env, **files)

    def start(self, *arguments: str) -> Server:
        self.launch(*arguments)
        if "query" in arguments:
            self.wait_ready()
            return self
        with self.client(retry_for=120) as client:
            client.status()
        return self

    def not_ready(self) -> str | None:
        """What `/readyz` has against asking this server; `None` where it may be asked."""
        try:
            with urllib.request.urlopen(f"http://{self.queries}/readyz", timeout=30):
                return None
        except urllib.error.HTTPError as refused:
            return refused.read().decode()
        except OSError as error:
            return str(error)

    def wait_ready(self, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while reason := self.not_ready():
            if (ended := self.process.poll()) is not None:
                raise AssertionError(f"{self.directory}: ended with {ended}: {self.last_words()}")
            assert time.monotonic() < deadline, reason
            time.sleep(0.1)

    def serve_to_end(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """For a server that should refuse to start."""
        return subprocess.run(
            self.command(*arguments), cwd=self.directory, capture_output=True, text=True, timeout=60, env=self.env
        )

    def kill(self) -> None:
        """One that has died before, by itself, fails the test: nothing that a test does to it may do that."""
        if not self.is_killed and (ended := self.process.poll()) is not None:
            raise AssertionError(f"{self.directory}: died of {ended}: {self.last_words()}")
        self.is_killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def stop(self) -> int:
        if self.process is None or self.is_killed:
            return 0
        if (ended := self.process.poll()) is not None:
            assert ended >= 0, f"{self.directory}: died of signal {-ended}: {self.last_words()}"
            return ended
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def last_words(self) -> str:
        """Of a server that died of a signal: the end of its log and, where the machine keeps that and has a debugger,
        where its threads stood."""
        said = self.log_file.read_text(errors="replace")[-4_000:]
        core = max(self.directory.glob("core*"), default=None)
        if core is None or shutil.which("gdb") is None:
            return said
        look = ["gdb", "--batch", "-ex", "bt 50", "-ex", "thread apply all bt 12", sys.executable, str(core)]
        return said + subprocess.run(look, capture_output=True, text=True, timeout=300).stdout[:60_000]

    def lose_state(self) -> None:
        """Of all slices; the server must be stopped."""
        for state in (self.directory / "data").glob("state*"):
            shutil.rmtree(state)

    def client(self, retry_for: float = 10.0) -> Client:
        return Client(f"http://{self.queries}", f"http://{self.control}", retry_for=retry_for)

    def status(self) -> dict[str, Any]:
        """What `thyme status` shows, without the command's start: for who asks again and again."""
        with self.client() as client:
            return client.status()

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A `thyme` command, in the server's directory."""
        return run_command(arguments, cwd=self.directory, env=self.env, stdin=stdin)

    def data(self, *arguments: str) -> Any:
        """What a command prints as JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def commit(self, source: str, name: str = "features.py") -> subprocess.CompletedProcess[str]:
        (self.directory / name).write_text(source, encoding="utf-8")
        return self.run("commit", name)
