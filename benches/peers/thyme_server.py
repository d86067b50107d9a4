"""Thyme's side: `thyme serve` on an empty data directory, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import measure
from child import PeerError

STARTS_WITHIN = 60.0


class ThymeServer:
    """One that runs; `close` takes its data away too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.control, self.queries = _free_addresses(2)
        addresses = ("--control-addr", self.control, "--query-addr", self.queries)
        options = ("--data-dir", str(folder / "data"), "--clock", "event", "--log-level", "warn", *addresses)
        with open(folder / "server.log", "ab") as log:
            command = (sys.executable, "-m", "thyme", "serve", *options)
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        self._wait_ready()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def urls(self) -> dict[str, str]:
        return {"url": f"http://{self.queries}", "control": f"http://{self.control}"}

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.queries}/readyz", timeout=5):
                    return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    told = (self.folder / "server.log").read_text()[-500:]
                    raise PeerError(f"the server does not start: {error}\n{told}") from None
                time.sleep(0.05)

    def wait_until_quiet(self) -> None:
        """Background work of the state included."""
        measure.wait_until_quiet(self.pid)

    def cpu_seconds(self) -> float:
        """So far."""
        return measure.cpu_seconds([self.pid])

    def close(self) -> None:
        """Ends it."""
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{found.getsockname()[1]}" for found in sockets]
    for found in sockets:
        found.close()
    return addresses
