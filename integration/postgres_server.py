"""A real PostgreSQL server for a test, from `tools/postgres.sh`: killed, started, paused; gone when the test is."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "tools" / "postgres.sh"


class Postgres:
    def __init__(self) -> None:
        self.process = subprocess.Popen([SCRIPT, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.process.stdout.readline().strip()
        assert answer.startswith("ready "), f"no PostgreSQL ({answer})"
        self.address = answer.removeprefix("ready ")

    def url(self, database: str = "thyme", user: str = "postgres:secret") -> str:
        return f"postgres://{user}@{self.address}/{database}"

    def tell(self, command: str) -> None:
        """`kill`, `start`, `pause`, `resume`, or `sql` and a statement for the superuser."""
        print(command, file=self.process.stdin, flush=True)
        done = "sql" if command.startswith("sql ") else command
        assert self.process.stdout.readline().strip() == f"done {done}"

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
