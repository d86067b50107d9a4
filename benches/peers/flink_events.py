"""Flink: SQL OVER windows in a streaming job of the local cluster, one slot, state on the heap, from a CSV file into
nothing. An event's row is made when the watermark has passed it, over all events up to its time, late ones included."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.version import __version__

from adapter import main
from events_adapter import PerEvent
from reference import CENTS, columns

INTERVALS = {"1h": "INTERVAL '1' HOUR", "24h": "INTERVAL '24' HOUR(3)", "7d": "INTERVAL '7' DAY"}
SETTINGS = {
    "parallelism.default": "1",
    "table.local-time-zone": "UTC",
    "table.exec.state.ttl": "0",
    "pipeline.object-reuse": "true",
}
FUNCTIONS = {
    "count": "COUNT(cents)",
    "sum_cents": "SUM(cents)",
    "avg_cents": "AVG(CAST(cents AS DOUBLE))",
    "max_cents": "MAX(cents)",
}
TYPES = {"count": "BIGINT", "sum_cents": "BIGINT", "avg_cents": "DOUBLE", "max_cents": "BIGINT"}


class Flink(PerEvent):
    """Each run is a job."""

    version = f"Flink {__version__}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.output = folder / "flink"
        given = folder / "flink.csv"
        key, time, cents = vars(self.events).values()
        # Whole milliseconds: its event time knows no more.
        table = np.column_stack([np.arange(len(key)), key, time // 1000, cents])
        np.savetxt(given, table, "%d", ",")
        self.tables = TableEnvironment.create(EnvironmentSettings.new_instance().in_streaming_mode().build())
        for name, value in SETTINGS.items():
            self.tables.get_config().set(name, value)
        one_event = folder / "flink_one.csv"
        np.savetxt(one_event, table[:1], "%d", ",")
        for name, path in (("events", given), ("one_event", one_event)):
            self.tables.execute_sql(f"""
                CREATE TABLE {name} (
                    place BIGINT, k BIGINT, ms BIGINT, cents BIGINT, ts AS TO_TIMESTAMP_LTZ(ms, 3),
                    WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE
                ) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv')""")
        fields = ", ".join(f"{name} {TYPES[name.rpartition('_')[0]]}" for name in columns(CENTS))
        sinks = {
            "counted": "'connector' = 'blackhole'",
            "kept": f"'connector' = 'filesystem', 'path' = '{self.output}', 'format' = 'csv'",
        }
        for name, options in sinks.items():
            self.tables.execute_sql(f"CREATE TABLE {name} (place BIGINT, {fields}) WITH ({options})")

    def compute(self, keep: bool) -> int:
        """Waits for the end of the job; it fails if it loses a row."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.tables.execute_sql(f"INSERT INTO {'kept' if keep else 'counted'} {_query('events')}").wait()
        return len(self.events)

    def start(self) -> dict[str, Any]:
        """The same job over one event: what each costs before its first."""
        self.tables.execute_sql(f"INSERT INTO counted {_query('one_event')}").wait()
        return {}

    def kept(self) -> dict[str, Any]:
        """Back in order of arrival."""
        rows = []
        for part in self.output.rglob("part-*"):
            with open(part, newline="") as lines:
                rows += [[float(value) for value in row] for row in csv.reader(lines)]
        table = np.array(sorted(rows))
        if not np.array_equal(table[:, 0], np.arange(len(self.events))):
            raise ValueError(f"{len(table)} rows of values for {len(self.events)} events")
        return dict(zip(columns(CENTS), table[:, 1:].T, strict=True))


def _query(source: str) -> str:
    """One query has windows of one length, so each stands over the one before."""
    passed = ["place", "k", "cents", "ts"]
    for window, interval in INTERVALS.items():
        wanted = [f"{call} OVER w AS {kind}_{window}" for kind, call in FUNCTIONS.items()]
        over = f"PARTITION BY k ORDER BY ts RANGE BETWEEN {interval} PRECEDING AND CURRENT ROW"
        source = f"(SELECT {', '.join(passed + wanted)} FROM {source} WINDOW w AS ({over}))"
        passed += [f"{kind}_{window}" for kind in FUNCTIONS]
    return f"SELECT place, {', '.join(columns(CENTS))} FROM {source}"


if __name__ == "__main__":
    main(Flink)
