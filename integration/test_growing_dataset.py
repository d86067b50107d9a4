"""A raw dataset that gains a field keeps its rows: the old ones hold null there, the new ones what was sent."""

from __future__ import annotations

import pytest

BEFORE = """
from datetime import datetime
from typing import Optional
from thyme import Count, LastK, Sum, dataset, feature, featureset, field, inputs, pipeline


@dataset(index=True, version=1)
class Reading:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    level: float
    # more


@dataset(index=True, version=1)
class DeviceStats:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    total: float

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        return readings.groupby("device").aggregate(n=Count(window="forever"), total=Sum(of="level", window="forever"))


@featureset
class Device:
    device: str
    n: int = feature(ref=DeviceStats.n)
    total: float = feature(ref=DeviceStats.total)
"""


def reading(device: str, minute: int, **more: object) -> dict[str, object]:
    return {"device": device, "ts": f"2026-03-01T00:{minute:02}:00Z", "level": minute + 0.5, **more}


@pytest.mark.parametrize("many", [3, 60])
def test_old_rows_stay_readable(make_server, many):
    server = make_server(f"growing-{many}").start()
    assert server.commit(BEFORE).returncode == 0
    with server.client() as client:
        sent = client.log("Reading", [reading("a", minute) for minute in range(many - 1)])
        assert client.query("Device", "a", at_least=sent.position).to_dicts() == [
            {"device": "a", "n": many - 1, "total": sum(minute + 0.5 for minute in range(many - 1))}
        ]
    done = server.commit(BEFORE.replace("# more", "place: Optional[str]"))
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        newest = client.lookup("Reading", "a").to_dicts()
        assert newest == client.lookup("Reading", "a", ts="2027-01-01T00:00:00Z").to_dicts()
        assert (newest[0]["level"], newest[0]["place"]) == (many - 2 + 0.5, None)
        sent = client.log("Reading", [reading("a", many - 1, place="Oslo"), reading("b", 1, place=None)])
        assert client.query("Device", "a", at_least=sent.position).to_dicts()[0]["n"] == many
    server.kill()
    server.start()
    with server.client(retry_for=60) as client:
        assert client.lookup("Reading", "a").to_dicts()[0]["place"] == "Oslo"
        old = client.lookup("Reading", "a", ts="2026-03-01T00:00:30Z").to_dicts()[0]
        assert (old["level"], old["place"]) == (0.5, None)
        assert client.query("Device", "a").to_dicts()[0]["total"] == sum(minute + 0.5 for minute in range(many))
