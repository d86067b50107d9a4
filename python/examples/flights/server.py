"""A real `thyme serve` in a process of its own, on loopback and the event clock."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from thyme.client import Client
from thyme.errors import ThymeError

START_SECONDS = 120
RETRY_SECONDS = 120  # how long clients wait for a server that is being restarted


class Server:
    """One server with its data directory; `port` for control, the next one for queries; None takes free ones."""

    def __init__(self, data: Path, port: int | None = None) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        ports = (port, port + 1) if port is not None else _free_ports()
        self.control, self.queries = (f"127.0.0.1:{number}" for number in ports)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.queries}"

    @property
    def environment(self) -> dict[str, str]:
        """What the command `thyme` needs to find this server."""
        return {"THYME_BASE_URL": self.url, "THYME_CONTROL_URL": f"http://{self.control}"}

    @property
    def command(self) -> list[str]:
        """The arguments of `thyme` that start it."""
        addresses = ["--control-addr", self.control, "--query-addr", self.queries]
        return ["serve", "--data-dir", str(self.data), "--clock", "event", *addresses]

    def client(self, timeout: float | None = None) -> Client:
        """A client that outlives a restart."""
        return Client(self.url, f"http://{self.control}", timeout=timeout, retry_for=RETRY_SECONDS)

    def start(self) -> None:
        """Starts it, or starts it again, and waits until it answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "thyme", *self.command], stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with Client(self.url, f"http://{self.control}", retry_for=0.2) as client:
                    client.status()
                return
            except ThymeError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"error: the server does not start: {error}\n{self._last_lines()}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: no chance to write anything down."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Stops it in good order, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()

    def wait(self) -> None:
        """Until it ends, or Ctrl-C."""
        if self._process is not None:
            self._process.wait()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command `thyme`, against this server."""
        command = [sys.executable, "-m", "thyme", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **self.environment})

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])


def _free_ports() -> tuple[int, int]:
    """Two ports next to each other, below those that systems hand out for connections: nobody takes them meanwhile."""
    for first in random.sample(range(18_000, 30_000, 2), 200):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", first))
                other.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first, first + 1
    raise SystemExit("error: no free ports; give one with --port")
