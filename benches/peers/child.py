"""The runner's side of a peer's process."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import measure

HERE = Path(__file__).parent
ANSWERS_WITHIN = 1800.0


class PeerError(Exception):
    """A peer that cannot be had, or that failed."""


@dataclass
class Run:
    """What one run cost: CPU seconds of the peer's process with what it has started, and of the servers among that."""

    wall: float
    cpu: float
    servers: float
    peak_mb: float = 0.0
    servers_peak_mb: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)


class Child:
    """A peer in a process of its own, loaded and waiting."""

    def __init__(self, python: Path, script: str, data: Path, method: str) -> None:
        if not python.exists():
            raise PeerError(f"there is no environment {python.parent.parent} (tools/peers.sh makes it)")
        command = [str(python), str(HERE / script), str(data), method]
        self.script, self.data = script, data
        self.log = data / f"{Path(script).stem}-{method}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, cwd=data
            )
        self.scratch = data / f"answers-{self.process.pid}.npz"
        told = self._read()
        self.version: str = told["version"]
        self.servers: list[int] = told["servers"]

    def run(self, do: str = "run", measured: int | None = None, **asked: Any) -> Run:
        """Tells it to do its work once.

        Args:
            measured: a server whose costs count as the servers' and as the peak of memory, beside the peer's own.
        """
        roots = [self.process.pid, *([measured] if measured else [])]
        servers = [measured] if measured else self.servers
        for root in roots:
            measure.forget_peak(root)
        before, before_servers = measure.cpu_seconds(roots), measure.cpu_seconds(servers)
        started = time.perf_counter()
        found = self.ask(do, **asked)
        wall = time.perf_counter() - started
        cpu, of_servers = measure.cpu_seconds(roots) - before, measure.cpu_seconds(servers) - before_servers
        return Run(wall, cpu, of_servers, sum(map(measure.peak_mb, roots)), sum(map(measure.peak_mb, servers)), found)

    def answers(self, do: str = "answers", **asked: Any) -> dict[str, np.ndarray]:
        """What it gives, to be checked."""
        self.ask(do, to=str(self.scratch), **asked)
        with np.load(self.scratch) as found:
            return dict(found)

    def ask(self, do: str, **asked: Any) -> dict[str, Any]:
        """Its answer to one line."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **asked}) + "\n")
        except BrokenPipeError:
            raise PeerError(f"{self.script} has ended") from None
        return self._read()

    def _read(self) -> dict[str, Any]:
        # One line at a time is on its way, so nothing of it waits in a buffer.
        if not select.select([self.process.stdout], [], [], ANSWERS_WITHIN)[0]:
            self.process.kill()
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(f"{self.script} ended with {self.process.wait()}: {self.log.read_text()[-300:]}")
        told = json.loads(line)
        if "error" in told:
            self.process.wait()
            raise PeerError(told["error"])
        return told

    def close(self) -> None:
        """Ends it, and its servers with it; nothing the second time."""
        if self.process.stdout.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            print(f"  {self.script} does not end: killed", file=sys.stderr)
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
