"""Rows that a pipeline leaves out, and expressions that come to null: counted, and shown wherever pipelines are."""

from __future__ import annotations

from surfaces import http, metrics

SOURCE = """
from datetime import datetime
from typing import Optional

from thyme import Avg, Count, col, dataset, feature, featureset, field, inputs, pipeline


@dataset(version=1)
class Reading:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)
    room: Optional[str]
    level: float
    rated: float


@dataset(index=True, version=1)
class MeterStats:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    share: Optional[float]

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        used = readings.filter(col("level") >= 0).assign(share=col("level") / col("rated"))
        return used.groupby("meter").aggregate(n=Count(), share=Avg(of="share"))


@dataset(index=True, version=1)
class RoomStats:
    room: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    share: Optional[float]

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        used = readings.filter(col("level") >= 0).assign(share=col("level") / col("rated"))
        return used.groupby("room").aggregate(n=Count(), share=Avg(of="share"))


@featureset
class Rooms:
    room: str
    n: int = feature(ref=RoomStats.n)
"""

# Room, level, rated.
ROWS = [
    ("hall", 1.0, 2.0),
    ("hall", 3.0, 2.0),
    ("hall", -1.0, 2.0),  # filtered
    ("hall", 1.0, 0.0),  # its share is null
    (None, 1.0, 2.0),  # in no room
    (None, -1.0, 2.0),  # filtered, but not by who groups by room: it has no room
    (None, 1.0, 0.0),
]
COUNTS = {
    "MeterStats.compute": {"accepted": 5, "filtered": 2, "null_key": 0, "warnings": 2},
    "RoomStats.compute": {"accepted": 3, "filtered": 1, "null_key": 3, "warnings": 1},
}


def test_what_a_pipeline_leaves_out_is_counted_and_shown(server):
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    names = ("room", "level", "rated")
    rows = [
        {"meter": number, "ts": "2026-01-15T12:00:00Z", **dict(zip(names, row, strict=True))}
        for number, row in enumerate(ROWS)
    ]
    with server.client() as client:
        position = client.log("Reading", rows).position
        assert client.query("Rooms", "hall", at_least=position).to_dicts()[0]["n"] == 3
        listed = {pipeline["name"]: pipeline["counts"] for pipeline in client.list("pipelines")}
    assert listed == COUNTS

    _, found = http(f"http://{server.control}/api/v1/pipelines")
    assert {pipeline["name"]: pipeline["counts"] for pipeline in found["pipelines"]} == COUNTS
    for name, counts in COUNTS.items():
        assert server.data("inspect", name)["counts"] == counts
        shown = metrics(server.control)
        for what in ("rows_accepted", "rows_filtered", "rows_null_key", "warnings"):
            sample = f'thyme_pipeline_{what}_total{{pipeline="{name}@1"}}'
            assert shown[sample] == counts[what.removeprefix("rows_")], sample
    line = "rows: 3 accepted, 1 filtered, 3 without a group key; expressions that came to null: 1"
    assert line in server.run("inspect", "RoomStats").stdout

    # They are of the state: a server that starts again goes on from there.
    server.kill()
    server.start()
    with server.client() as client:
        position = client.log("Reading", rows[2:3]).position
        client.query("Rooms", "hall", at_least=position)
        listed = {pipeline["name"]: pipeline["counts"]["filtered"] for pipeline in client.list("pipelines")}
    assert listed == {"MeterStats.compute": 3, "RoomStats.compute": 2}
