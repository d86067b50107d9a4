"""Rows that do not become events can be looked at: late ones, dead letters, lines of a file that cannot be read."""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import datetime, timezone

import pytest

from harness import wait_until
from surfaces import metrics
from thyme.errors import FailedPreconditionError, NotFoundError

SOURCE = """
from datetime import datetime

from thyme import Count, FileSource, dataset, field, inputs, pipeline, source


@dataset(index=True, version=1, max_lateness="1h", partitions=1)
class Reading:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)
    level: float


@source(FileSource("lines.jsonl"), every="1s")
@dataset(index=True, version=1)
class Line:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)


@dataset(index=True, version=1)
class MeterStats:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        return readings.groupby("meter").aggregate(n=Count())
"""


@pytest.fixture
def meters(make_server):
    # The wall clock: on the event clock no event is too far in the future.
    running = make_server(clock="wall")
    (running.directory / "lines.jsonl").write_text('{"meter": 1, "ts": "never"}\n', encoding="utf-8")
    running.start()
    committed = running.commit(SOURCE)
    assert committed.returncode == 0, committed.stderr
    return running


def counts(client, dataset):
    return next(found["counts"] for found in client.list("datasets") if found["name"] == dataset)


def test_each_kind_is_listed_with_reason_place_and_row(meters):
    with meters.client() as client:
        client.log("Reading", [{"meter": 7, "ts": "2026-01-15T12:00:00Z", "level": 1.5}])
        client.log("Reading", [{"meter": 7, "ts": "2026-01-15T10:59:59Z", "level": 2.5}])
        client.log("Reading", [{"meter": 8, "ts": "2999-01-01T00:00:00Z", "level": 3.5}])
        while counts(client, "Reading")["dead_letters"] < 1:
            time.sleep(0.02)
        dead, late = client.rejected("Reading")
        while not client.rejected("Line"):
            time.sleep(0.02)
        line = client.rejected("Line")[0]
        assert counts(client, "Reading")["late_dropped"] == 1
        with pytest.raises(FailedPreconditionError, match="filled by its pipelines"):
            client.rejected("MeterStats")
        with pytest.raises(NotFoundError, match="did you mean 'Reading'"):
            client.rejected("Readng")

    assert (dead["kind"], dead["partition"], dead["offset"]) == ("dead_letter", 0, 2)
    assert dead["row"] == {"meter": 8, "ts": "2999-01-01T00:00:00Z", "level": 3.5}
    assert "ahead of its arrival" in dead["reason"]
    assert (late["kind"], late["partition"], late["offset"]) == ("late", 0, 1)
    assert late["row"] == {"meter": 7, "ts": "2026-01-15T10:59:59Z", "level": 2.5}
    assert "below the watermark" in late["reason"]
    assert (line["kind"], line["offset"]) == ("source", 0)
    assert "line 1" in line["reason"]
    assert "not a time: 'never'" in line["reason"]
    assert "never" in json.dumps(line["row"])

    with urllib.request.urlopen(f"http://{meters.control}/api/v1/rejected?dataset=Reading&limit=1") as answer:
        assert [row["offset"] for row in json.load(answer)["rows"]] == [2, 1]
    shown = meters.run("inspect", "Reading").stdout
    assert "late, arrived" in shown
    assert "dead_letter, arrived" in shown
    assert "source file: waiting, 0 rows, 1 rejected" in meters.run("inspect", "Line").stdout


def test_metrics_count_them(meters):
    row = {"meter": 7, "ts": "2026-01-15T12:00:00Z", "level": 1.5}
    with meters.client() as client:
        for event_id in ("a", "b", "a"):
            client.log("Reading", [row], event_ids=[event_id])
        client.log("Reading", [{**row, "ts": "2026-01-15T10:59:59Z"}, {**row, "ts": "2999-01-01T00:00:00Z"}])
        client.log("Reading", [{**row, "level": "high"}])
        while counts(client, "Reading")["dead_letters"] < 1 or not client.rejected("Line"):
            time.sleep(0.02)
        for _ in range(3):
            client.lookup("MeterStats", 7)
    for address in (meters.control, meters.queries):
        shown = metrics(address)
        place = '{dataset="Reading",topic="Reading.v1",partition="0"}'
        assert shown[f"thyme_events_accepted_total{place}"] == 2
        assert shown[f"thyme_events_duplicate_total{place}"] == 1
        assert shown[f"thyme_events_late_dropped_total{place}"] == 1
        assert shown[f"thyme_events_rejected_total{place}"] == 1
        assert shown[f"thyme_watermark_seconds{place}"] == datetime(2026, 1, 15, 11, tzinfo=timezone.utc).timestamp()
        assert shown[f"thyme_lag_records{place}"] == 0
        assert shown['thyme_ingest_appended_rows_total{dataset="Reading"}'] == 5
        assert shown['thyme_ingest_rejected_rows_total{dataset="Reading"}'] == 1
        assert shown['thyme_source_rejected_rows_total{dataset="Line"}'] == 1
        assert shown['thyme_pipeline_rows_accepted_total{pipeline="MeterStats.compute@1"}'] == 2
        assert shown['thyme_query_duration_seconds_count{kind="lookup"}'] == 3
        # The place of the source's row in its own log is not read by anybody; a tick takes several records or one.
        assert shown["thyme_tick_records_total"] == 6
        assert 1 <= shown["thyme_tick_duration_seconds_count"] <= 6


def test_an_erase_clears_them(meters):
    with meters.client() as client:
        client.log("Reading", [{"meter": 8, "ts": "2999-01-01T00:00:00Z", "level": 3.5}])
        while not client.rejected("Reading"):
            time.sleep(0.02)
        client.erase("Reading", [8])
        while client.rejected("Reading"):
            time.sleep(0.02)
        assert counts(client, "Reading")["erased_keys"] == 1


def test_an_erase_clears_the_late_ones_of_its_keys(meters):
    def late(meter, minute):
        return {"meter": meter, "ts": f"2026-01-15T10:{minute:02}:00Z", "level": 2.5}

    def samples():
        """Meter and minute."""
        found = client.rejected("Reading")
        assert {row["kind"] for row in found} <= {"late"}, found
        return sorted((row["row"]["meter"], int(row["row"]["ts"][14:16])) for row in found)

    def wait_counted(**wanted):
        wait_until(lambda: wanted.items() <= counts(client, "Reading").items())

    with meters.client() as client:
        client.log("Reading", [{"meter": 9, "ts": "2026-01-15T12:00:00Z", "level": 1.5}])
        client.log("Reading", [late(7, 1), late(8, 2), late(7, 3)])
        wait_counted(late_dropped=3)
        assert samples() == [(7, 1), (7, 3), (8, 2)]
        client.erase("Reading", [7])
        wait_counted(erased_keys=1)
        assert samples() == [(8, 2)], "of the erased key none, of the other all"
        client.log("Reading", [late(7, 4)])
        wait_counted(late_dropped=4)
        assert samples() == [(7, 4), (8, 2)], "the erase reaches back only"
    # What is read from the log anew comes to the same, with rows and erase in one stretch.
    meters.stop()
    meters.lose_state()
    meters.start()
    with meters.client(retry_for=60) as client:
        wait_counted(late_dropped=4, erased_keys=1)
        assert samples() == [(7, 4), (8, 2)]
