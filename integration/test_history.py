"""`history=`: an answer below the horizon is an error that names it, and another history builds the state anew."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from thyme.errors import OutOfRangeError

FEATURES = """
from datetime import datetime
from thyme import Count, Sum, dataset, feature, featureset, field, inputs, pipeline


@dataset(version=1, max_lateness="1h", history="2d")
class Reading:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    level: int


@dataset(index=True, version=1)
class DeviceStats:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    total: int

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        return readings.groupby("device").aggregate(n=Count(window="1d"), total=Sum(of="level", window="12h"))


@featureset
class Device:
    device: str
    n: int = feature(ref=DeviceStats.n)
    total: int = feature(ref=DeviceStats.total)
"""
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24 * 20
#: The newest reading is of the last hour, the watermark an hour below.
WATERMARK = START + timedelta(hours=HOURS - 2)


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def truth(hour: int) -> dict[str, object]:
    """Both ends of a window belong to it: 25 and 13 readings once it is full."""
    counted = range(max(0, hour - 24), hour + 1)
    return {"device": "a", "n": len(counted), "total": sum(range(max(0, hour - 12), hour + 1))}


def horizon(days: int) -> int:
    return HOURS - 2 - 24 * days


def check(client, days: int) -> None:
    for hour in (horizon(days), horizon(days) + 1, HOURS - 1):
        assert client.query("Device", "a", ts=at(hour)).to_dicts() == [truth(hour)]
    with pytest.raises(OutOfRangeError) as raised:
        client.query("Device", "a", ts=at(horizon(days)) - timedelta(microseconds=1))
    edge = (WATERMARK - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"is before the horizon {edge}: 'Reading' has history={days}d below its watermark" in str(raised.value)


def test_answers_end_at_the_horizon(make_server):
    server = make_server().start()
    assert server.commit(FEATURES).returncode == 0
    with server.client() as client:
        rows = [{"device": "a", "ts": at(hour), "level": hour} for hour in range(HOURS)]
        sent = client.log("Reading", rows)
        assert client.query("Device", "a", at_least=sent.position).to_dicts() == [truth(HOURS - 1)]
        check(client, 2)
        with pytest.raises(OutOfRangeError):
            client.lookup("DeviceStats", "a", ts=at(0))
        with pytest.raises(OutOfRangeError):
            client.explain("Device", "a", ts=at(0))
        spine = [{"device": "a", "timestamp": at(hour)} for hour in (0, horizon(2), HOURS - 1)]
        found = client.query_offline("Device", spine, timestamp_column="timestamp", statuses=True).to_dicts()
        assert [row["n__status"] for row in found] == ["ERROR", "OK", "OK"]
        assert [row["n"] for row in found] == [None, 25, 25]
        assert [row["total"] for row in found[1:]] == [truth(horizon(2))["total"], truth(HOURS - 1)["total"]]
    url = f"http://{server.queries}/features?featureset=Device&device=a&ts=2026-03-01T00:00:00Z"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=30)
    assert refused.value.code == 400
    assert json.load(refused.value)["code"] == "out_of_range"
    assert "history 2d" in server.run("inspect", "Reading").stdout

    server.kill()
    server.start()
    with server.client(retry_for=60) as client:
        check(client, 2)
    # A longer one is built from the log, which has everything.
    done = server.commit(FEATURES.replace('history="2d"', 'history="6d"'))
    assert done.returncode == 0, done.stderr
    assert "history changes from 2d to 6d" in done.stdout
    with server.client() as client:
        check(client, 6)
