"""A server that one of our scripts runs for a test, told over its standard input what to do; gone when the test is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).parent.parent / "tools"
# What brings back a server after what was done to it.
BACK = {"kill": "start", "pause": "resume"}


class Script:
    """`command` prints `ready ADDRESS`, then `done COMMAND` for each line it is given."""

    def __init__(self, command: Sequence[object], missing: str) -> None:
        self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.process.stdout.readline().strip()
        assert answer.startswith("ready "), f"{missing} ({answer})"
        self.address = answer.removeprefix("ready ")
        self._back: str | None = None

    def tell(self, command: str) -> None:
        """`kill`, `start`, `pause`, `resume`, or `sql` and a statement."""
        print(command, file=self.process.stdin, flush=True)
        done = "sql" if command.startswith("sql ") else command
        assert self.process.stdout.readline().strip() == f"done {done}"
        if done != "sql":
            self._back = BACK.get(command)

    def revive(self) -> None:
        """Brings it back if a test left it killed or paused."""
        if self._back is not None:
            self.tell(self._back)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
