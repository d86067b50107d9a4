"""A TCP proxy that cuts each connection after so many bytes: for what breaks in the middle of anything."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable


class CuttingProxy:
    """Listens at `address` for who would speak with `target`. `bytes_of_next`: how many bytes, both ways together, the
    next connection lives for. `cuts` counts those that were cut."""

    def __init__(self, target: str, bytes_of_next: Callable[[], int]) -> None:
        self.cuts = 0
        self._target = target.rpartition(":")
        self._bytes_of_next = bytes_of_next
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near, self._bytes_of_next()), daemon=True).start()

    def _serve(self, near: socket.socket, left: int) -> None:
        host, _, port = self._target
        with near, contextlib.suppress(OSError), socket.create_connection((host, int(port))) as far:
            other = {near: far, far: near}
            while left > 0:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(min(left, 65_536))
                    if not data:
                        return
                    other[ready].sendall(data)
                    left -= len(data)
            self.cuts += 1

    def close(self) -> None:
        self._listening.close()
