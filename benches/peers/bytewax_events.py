"""Bytewax: `stateful_map` with the kernel, one worker, events from memory, no recovery store."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from adapter import main
from events_adapter import PerEvent, as_columns
from kernel import Windows

BATCH = 1000


class Sink(DynamicSink, StatelessSinkPartition):
    """Counts, and keeps if told to."""

    def __init__(self, keep: bool) -> None:
        self.keep, self.seen, self.rows = keep, 0, []

    def build(self, *_: Any) -> Sink:
        """The one worker's."""
        return self

    def write_batch(self, items: list[Any]) -> None:
        """Key and (place, values)."""
        self.seen += len(items)
        if self.keep:
            self.rows += [found for _, found in items]


def step(windows: Windows | None, event: tuple[int, int, int]) -> tuple[Windows, tuple[int, Any]]:
    """One event of a key."""
    windows = windows or Windows()
    place, time, cents = event
    return windows, (place, windows.add(time, cents))


class Bytewax(PerEvent):
    """Keys are texts there."""

    version = f"Bytewax {version('bytewax')}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        key, time, cents = (column.tolist() for column in vars(self.events).values())
        self.source = [(str(k), (p, t, c)) for p, (k, t, c) in enumerate(zip(key, time, cents, strict=True))]

    def compute(self, keep: bool) -> int:
        """A flow of its own, with new state."""
        sink, flow = Sink(keep), Dataflow("windows")
        events = op.input("events", flow, TestingSource(self.source, batch_size=BATCH))
        op.output("values", op.stateful_map("windows", events, step), sink)
        run_main(flow)
        self.rows = sink.rows
        return sink.seen

    def kept(self) -> dict[str, Any]:
        """Back in order of arrival."""
        return as_columns(found for _, found in sorted(self.rows, key=lambda row: row[0]))


if __name__ == "__main__":
    main(Bytewax)
