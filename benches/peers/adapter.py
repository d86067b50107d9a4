"""The side of a peer: a process in the peer's environment that has loaded everything and then does what it is told, one
JSON line in and one out. So start-up is not measured, and the systems can take turns."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

STARTS_WITHIN = 120.0
PARENT_DEATH = 1  # PR_SET_PDEATHSIG


class Peer(Protocol):
    """What an adapter is: made with everything loaded."""

    version: str

    def run(self, **asked: Any) -> dict[str, Any]:
        """The work, once."""

    def answers(self, **asked: Any) -> dict[str, np.ndarray]:
        """What the work gives, to be checked; NaN is null."""


def main(make: Callable[[Path, str], Peer]) -> None:
    """Arguments: the folder with the data, and the method. Until standard input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        peer = make(Path(sys.argv[1]), sys.argv[2])
        tell({"version": peer.version, "servers": [server.pid for server in SERVERS]})
        for line in sys.stdin:
            asked = json.loads(line)
            do, to = asked.pop("do"), asked.pop("to", None)
            found = getattr(peer, do)(**asked)
            if to is not None:
                np.savez(to, **found)
            tell({} if to is not None else found or {})
    except Exception as error:  # whatever it is, the run goes on without this peer
        traceback.print_exc()
        tell({"error": f"{type(error).__name__}: {error}"[:500]})
    finally:
        for server in SERVERS:
            server.terminate()
        for server in SERVERS:
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
        # Threads that a library has left behind are not waited for.
        os._exit(0)


SERVERS: list[subprocess.Popen] = []


def start_server(command: Sequence[str | Path], is_ready: Callable[[], object], **options: Any) -> None:
    """A server that belongs to this peer; it ends with this process, however that ends."""

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)

    server = subprocess.Popen(command, stdout=2, preexec_fn=die_with_parent, **options)
    SERVERS.append(server)
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            is_ready()
            return
        except Exception:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_redis(folder: Path) -> int:
    """A Redis server that writes nothing to disk; its port."""
    port = free_port()
    command = (
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        folder,
    )

    def is_ready() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(16).startswith(b"+PONG")

    start_server(command, is_ready)
    return port


def get(url: str) -> bytes:
    """The body behind a URL."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()
