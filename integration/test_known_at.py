"""`known_at` as a wall time: every way in counts what was appended by then, and nothing that came later."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
import urllib.parse
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

from surfaces import exchange, http
from thyme import AsyncClient
from thyme.errors import InvalidArgumentError

SOURCE = """
from datetime import datetime

from thyme import (
    Count, Sum, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field, inputs, pipeline,
)


@dataset(index=True, version=1, max_lateness="2h")
class Paid:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: float


@dataset(index=True, version=1)
class Spending:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    spent: float

    @pipeline(version=1)
    @inputs(Paid)
    def compute(cls, paid):
        return paid.groupby("user").aggregate(n=Count(window="1d"), spent=Sum(of="amount", window="1d"))


@featureset
class Spender:
    user: str
    n: int = feature(ref=Spending.n)
    spent: float = feature(ref=Spending.spent)
    looked_up: float

    @extractor(deps=[Spending])
    @extractor_inputs("user")
    @extractor_outputs("looked_up")
    def look_up(cls, ts, user):
        return Spending.lookup(ts, user=user)["spent"]
"""
TS = "2026-01-15T13:30:00Z"
# One append each: the second is late, the third is only appended later.
APPENDS = [
    [("12:00:00", 0.1), ("13:00:00", 0.2)],
    [("12:30:00", 0.4)],
    [("13:10:00", 0.8)],
]
TOTALS = [0.1 + 0.2, 0.1 + 0.2 + 0.4, 0.1 + 0.2 + 0.4 + 0.8]
COUNTS = [2, 3, 4]
MICRO = timedelta(microseconds=1)


def paid(append):
    return [{"user": "ann", "ts": f"2026-01-15T{at}Z", "amount": amount} for at, amount in append]


def moments(send):
    """Sends the appends one by one; the wall times and the positions after each. None is of the time of another."""
    found = []
    for append in APPENDS:
        position = send(paid(append))
        time.sleep(0.01)
        found.append((datetime.now(timezone.utc), position))
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def spending(tmp_path_factory):
    from harness import Server

    running = Server(tmp_path_factory.mktemp("spending")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:

        def send(rows):
            sent = client.log("Paid", rows)
            # The position of an answer names the derived log as well.
            return client.query("Spender", "ann", at_least=sent.position).position

        running.moments = moments(send)
    yield running
    running.stop()


@pytest.fixture
def text(spending):
    return [when.isoformat() for when, _ in spending.moments]


def wanted(number):
    return {"n": COUNTS[number], "spent": pytest.approx(TOTALS[number]), "looked_up": pytest.approx(TOTALS[number])}


def by_grpc(spending, known_at):
    async def ask():
        async with AsyncClient(f"http://{spending.queries}", f"http://{spending.control}") as client:
            return await client.query("Spender", "ann", ts=TS, known_at=known_at)

    with spending.client() as client:
        asked = {"ts": TS, "known_at": known_at}
        yield "query", client.query("Spender", "ann", **asked).to_dicts()[0]
        yield "batch", client.query_batch("Spender", ["ann"], **asked).to_dicts()[0]
        yield "lookup", client.lookup("Spending", "ann", **asked).to_dicts()[0]
        explained = client.explain("Spender", "ann", **asked)["explanations"]
        yield "explain", {found["name"]: found["value"] for found in explained}
        assert {found["event_count"] for found in explained if found["events"]} == {explained[0]["value"]}
        spine = pa.table({"user": ["ann"], "timestamp": [TS]})
        yield "export", client.query_offline("Spender", spine, known_at=known_at).to_dicts()[0]
    yield "asynchronous", asyncio.run(ask()).to_dicts()[0]


def by_http(spending, known_at):
    base = f"http://{spending.queries}/features"
    asked = {"featureset": "Spender", "ts": TS, "known_at": known_at}
    yield "GET", http(f"{base}?{urllib.parse.urlencode({**asked, 'user': 'ann'})}")[1]["features"]
    yield "POST", http(base, {**asked, "entity_id": "ann"})[1]["features"]
    raw = urllib.parse.urlencode({"entity_type": "Spending", "user": "ann", "ts": TS, "known_at": known_at})
    yield "GET of a row", http(f"{base}?{raw}")[1]["features"]
    _, answer = http(f"{base}/batch", {**asked, "entity_ids": ["ann"]})
    yield "batch", dict(zip(answer["features"], answer["values"][0], strict=True))
    body = {"featureset": "Spender", "known_at": known_at, "queries": [{"entity_id": "ann", "timestamp": TS}]}
    yield "offline", http(f"{base}/offline", body)[1]["results"][0]["features"]
    spine = pa.table({"user": ["ann"], "timestamp": [TS]})
    yield "stock Flight", exchange(spending, spine, featureset="Spender", known_at=known_at).to_pylist()[0]


def by_command(spending, known_at):
    asked = ("-e", "ann", "--at", TS, "--known-at", known_at)
    yield "query", spending.data("query", "Spender", *asked)["features"]
    yield "lookup", spending.data("lookup", "Spending", *asked)["features"]
    explained = spending.data("explain", "Spender", *asked)["explanations"]
    yield "explain", {found["name"]: found["value"] for found in explained}
    spine = json.dumps({"user": "ann", "timestamp": TS})
    more = ("--input", "-", "--format", "jsonl", "-o", "joined.jsonl", "--known-at", known_at)
    done = spending.run("query-offline", "Spender", *more, stdin=spine)
    assert done.returncode == 0, done.stderr
    yield "query-offline", json.loads((spending.directory / "joined.jsonl").read_text())


def check(ways, number):
    """What was known, and to the bit the same whoever says it. A row of the dataset has no `looked_up`."""
    found = dict(ways)
    first = next(iter(found.values()))
    for way, row in found.items():
        for name in ("n", "spent") if "row" in way or "lookup" in way else wanted(number):
            assert row[name] == wanted(number)[name], (way, name)
            assert repr(row[name]) == repr(first[name]), (way, name)


@pytest.mark.parametrize("number", range(len(APPENDS)))
def test_every_way_in_counts_what_was_appended_by_a_wall_time(spending, text, number):
    when, _ = spending.moments[number]
    check(by_grpc(spending, when), number)
    # The same instant, as others write it.
    check(by_grpc(spending, when.astimezone(timezone(timedelta(hours=-5)))), number)
    check(by_grpc(spending, text[number]), number)
    check(by_http(spending, text[number]), number)
    check(by_command(spending, text[number]), number)


def test_a_position_says_the_same_as_the_wall_time_of_its_answer(spending):
    for number, (_, position) in enumerate(spending.moments):
        check(by_grpc(spending, position), number)
        check(by_http(spending, position), number)
    # Each command is a process of its own; one moment will do.
    check(by_command(spending, spending.moments[1][1]), 1)


def test_without_known_at_all_events_count(spending):
    with spending.client() as client:
        assert client.query("Spender", "ann", ts=TS).to_dicts()[0]["n"] == 4
        before = client.query("Spender", "ann", ts=TS, known_at=spending.moments[0][0] - timedelta(minutes=5))
    assert before.to_dicts()[0]["n"] == 0
    assert before.statuses["n"] == ["DEFAULT"], "nobody had heard of her"


def test_an_event_counts_from_the_instant_of_its_append(spending):
    with spending.client() as client:
        explained = client.explain("Spending", "ann", ts=TS, features=["n"])["explanations"]
        events = next(found["events"] for found in explained if found["name"] == "n")
        (late,) = [event for event in events if event["event_time"].strftime("%H:%M") == "12:30"]
        instant = late["append_time"]
        assert spending.moments[0][0] < instant < spending.moments[1][0]
        for known_at, n in ((instant - MICRO, 2), (instant, 3)):
            assert client.query("Spender", "ann", ts=TS, known_at=known_at).to_dicts()[0]["n"] == n
            _, answer = http(
                f"http://{spending.queries}/features",
                {"featureset": "Spender", "user": "ann", "ts": TS, "known_at": known_at.isoformat()},
            )
            assert answer["features"]["n"] == n


def test_a_time_of_neither_zone_nor_sense_is_refused(spending):
    with spending.client() as client, pytest.raises(InvalidArgumentError, match="naive|time zone") as refused:
        client.query("Spender", "ann", ts=TS, known_at=datetime(2026, 1, 15, 12))
    assert refused.value.field == "known_at"
    done = spending.run("query", "Spender", "-e", "ann", "--at", TS, "--known-at", "yesterday")
    assert done.returncode != 0
    assert "not a known_at: 'yesterday'" in done.stderr
    assert "the 'position' of an earlier answer" in done.stderr


def test_the_mock_knows_when_what_was_added_as_a_server_does(spending):
    from thyme.testing import MockContext

    spec = importlib.util.spec_from_file_location("known_at_features", spending.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with MockContext() as mock, spending.client() as client:

        def send(rows):
            assert mock.add_events(module.Paid, rows).rejected == []
            return mock.query(module.Spender, "ann").position

        for number, (when, position) in enumerate(moments(send)):
            served = client.query("Spender", "ann", ts=TS, known_at=spending.moments[number][0]).to_dicts()[0]
            for known_at in (when, when.isoformat(), position):
                asked = {"known_at": known_at}
                ways = {
                    "server": served,
                    "mock": mock.query(module.Spender, "ann", ts=TS, **asked),
                    "mock, lookup": mock.lookup(module.Spending, "ann", ts=TS, **asked),
                    "mock, export": mock.query_offline(
                        module.Spender, [{"user": "ann", "timestamp": TS}], **asked
                    ).to_dicts()[0],
                }
                check(ways.items(), number)
