"""A real Kafka broker for a test, from `tools/kafka.sh`: killed, started and paused at will; gone when the test is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "tools" / "kafka.sh"


class Broker:
    def __init__(self, *properties: str, inside: Sequence[str] = ()) -> None:
        """`inside`: what a command begins with that runs in a mount namespace."""
        self.process = subprocess.Popen(
            [*inside, SCRIPT, "serve", "0", *properties], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        answer = self.process.stdout.readline().strip()
        assert answer.startswith("ready "), f"no Kafka broker; `make test KAFKA=off` leaves these tests out ({answer})"
        self.address = answer.removeprefix("ready ")

    def tell(self, command: str) -> None:
        """`kill`, `start`, `pause` or `resume`."""
        print(command, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().strip() == f"done {command}"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
