"""The entries of TopK: the same `{value, count}` over every type of column and every way in."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import urllib.parse
import urllib.request
from collections import Counter
from datetime import datetime, timedelta, timezone

import grpc
import pyarrow as pa
import pyarrow.flight
import pytest

SOURCE = """
from datetime import datetime
from typing import Optional

from thyme import (
    TopK, TopKEntry, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field, inputs,
    pipeline,
)


@dataset(index=True, version=1)
class Visit:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    page: Optional[str]
    price: float
    mobile: bool
    slot: datetime
    rating: int


@dataset(index=True, version=1)
class Habits:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    pages: list[TopKEntry[str]]
    prices: list[TopKEntry[float]]
    mobiles: list[TopKEntry[bool]]
    slots: list[TopKEntry[datetime]]
    ratings: list[TopKEntry[int]]

    @pipeline(version=1)
    @inputs(Visit)
    def compute(cls, visits):
        return visits.groupby("user").aggregate(
            pages=TopK(of="page", window="1d", k=2),
            prices=TopK(of="price", window="1d", k=2),
            mobiles=TopK(of="mobile", window="1d", k=2),
            slots=TopK(of="slot", window="1d", k=2),
            ratings=TopK(of="rating", window="1d", k=2),
        )


@featureset
class Taste:
    user: str
    pages: list[TopKEntry[str]] = feature(ref=Habits.pages)
    prices: list[TopKEntry[float]] = feature(ref=Habits.prices)
    mobiles: list[TopKEntry[bool]] = feature(ref=Habits.mobiles)
    slots: list[TopKEntry[datetime]] = feature(ref=Habits.slots)
    ratings: list[TopKEntry[int]] = feature(ref=Habits.ratings)
    best: Optional[str]
    often: int
    kept: list[TopKEntry[str]]
    dear: list[TopKEntry[float]]

    @extractor
    @extractor_inputs("pages")
    @extractor_outputs("best", "often", "kept")
    def first(cls, ts, pages):
        return (pages[0]["value"], pages[0]["count"], pages[:1]) if pages else (None, 0, [])

    @extractor(batch=True)
    @extractor_inputs("prices")
    @extractor_outputs("dear")
    def dearer(cls, ts, prices):
        return [[entry for entry in row if entry["value"] > 1] for row in prices.to_pylist()]
"""

TYPES = {
    "pages": pa.string(),
    "prices": pa.float64(),
    "mobiles": pa.bool_(),
    "slots": pa.timestamp("us", tz="UTC"),
    "ratings": pa.int64(),
}
START = datetime(2025, 6, 1, tzinfo=timezone.utc)
USERS = ["a", "b", "c", "nobody"]


def visits() -> list[dict]:
    made = []
    for number in range(60):
        made.append(
            {
                "user": USERS[number % 3],
                "ts": START + timedelta(minutes=number),
                "page": ["home", "über", None, "cart", "home"][number % 5],
                "price": [0.1, 2.5, 1e-9, 2.5][number % 4],
                "mobile": number % 7 < 3,
                "slot": START + timedelta(microseconds=number % 4),
                "rating": number * number % 5 - 2,
            }
        )
    return made


def expected(user: str, field: str) -> list[dict]:
    """By hand: most frequent first, ties by value, nulls left out."""
    seen = Counter(visit[field] for visit in visits() if visit["user"] == user and visit[field] is not None)
    ranked = sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"value": value, "count": count} for value, count in ranked[:2]]


def wanted(user: str) -> dict[str, object]:
    fields = {"pages": "page", "prices": "price", "mobiles": "mobile", "slots": "slot", "ratings": "rating"}
    found: dict[str, object] = {name: expected(user, field) for name, field in fields.items()}
    pages, prices = found["pages"], found["prices"]
    found["best"], found["often"] = (pages[0]["value"], pages[0]["count"]) if pages else (None, 0)
    found["kept"], found["dear"] = pages[:1], [entry for entry in prices if entry["value"] > 1]
    return found


def plain(value):
    """As JSON shows it."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture
def shop(server):
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        position = client.log("Visit", visits()).position
        client.query("Taste", "a", at_least=position)
    return server


def without_key(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("user", "timestamp")}


def check_types(table: pa.Table) -> None:
    for name, value in TYPES.items():
        assert table.schema.field(name).type.value_type == pa.struct([("value", value), ("count", pa.int64())]), name


def test_every_way_in_gives_the_same_entries(shop):
    from thyme import _proto
    from thyme.testing import MockContext
    from thyme.values import from_value, to_fields

    last = visits()[-1]["ts"]
    spine = pa.table({"user": USERS, "timestamp": [last] * len(USERS)})
    with shop.client() as client:
        single = [client.query("Taste", user) for user in USERS]
        batch = client.query_batch("Taste", USERS)
        exported = client.query_offline("Taste", spine)
        looked_up = [client.lookup("Habits", user) for user in USERS]
        explained = client.explain("Taste", "a", features=["pages"])
    # The SDK, one by one, in a batch and exported; their Arrow, pandas and Polars forms.
    for row, user in enumerate(USERS):
        assert without_key(single[row].to_dicts()[0]) == wanted(user)
        assert without_key(batch.to_dicts()[row]) == wanted(user)
        assert without_key(exported.to_dicts()[row]) == wanted(user)
        found = without_key(looked_up[row].to_dicts()[0])
        assert {name: found[name] for name in TYPES} == {name: wanted(user)[name] for name in TYPES}
    for result in (single[0], batch, exported, looked_up[0]):
        check_types(result.to_arrow())
        assert list(result.to_pandas()["pages"].iloc[0]) == wanted("a")["pages"]
        assert result.to_polars()["slots"].to_list()[0] == wanted("a")["slots"]
    told = next(found for found in explained["explanations"] if found["name"] == "pages")
    assert told["value"] == wanted("a")["pages"]

    # gRPC: maps of typed values.
    path, request, response = _proto.methods()["GetFeatures"]
    with grpc.insecure_channel(shop.queries) as channel:
        ask = channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        answer = ask(request(featureset="Taste", key=to_fields({"user": "b"})))
    assert {found.name: from_value(found.value) for found in answer.features} == wanted("b")

    # HTTP: objects; many entities, as JSON and as Arrow.
    for user in USERS:
        query = urllib.parse.urlencode({"featureset": "Taste", "user": user})
        with urllib.request.urlopen(f"http://{shop.queries}/features?{query}") as response:
            assert json.load(response)["features"] == plain(wanted(user))
    asked = json.dumps({"featureset": "Taste", "entity_ids": USERS}).encode()
    for accept in ("application/json", "application/vnd.apache.arrow.stream"):
        headers = {"Content-Type": "application/json", "Accept": accept}
        many = urllib.request.Request(f"http://{shop.queries}/features/batch", asked, headers)
        with urllib.request.urlopen(many) as response:
            body = response.read()
        if accept == "application/json":
            names = json.loads(body)["features"]
            rows = [dict(zip(names, row, strict=True)) for row in json.loads(body)["values"]]
            assert [{name: row[name] for name in wanted("a")} for row in rows] == [
                plain(wanted(user)) for user in USERS
            ]
        else:
            table = pa.ipc.open_stream(body).read_all()
            check_types(table)
            assert [without_key(row) for row in table.to_pylist()] == [wanted(user) for user in USERS]

    # A stock Flight client, native features only: no extractor is called on this path.
    command = {"featureset": "Taste", "timestamp_column": "timestamp", "features": list(TYPES)}
    with pa.flight.connect(f"grpc://{shop.queries}") as flight:
        descriptor = pa.flight.FlightDescriptor.for_command(json.dumps(command))
        writer, reader = flight.do_exchange(descriptor)
        with writer:
            writer.begin(spine.schema)
            writer.write_table(spine)
            writer.done_writing()
            table = reader.read_all()
    check_types(table)
    for row, user in zip(table.to_pylist(), USERS, strict=True):
        assert without_key(row) == {name: wanted(user)[name] for name in TYPES}

    spec = importlib.util.spec_from_file_location("features_of_top_k", shop.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with MockContext() as context:
        context.add_events(module.Visit, visits())
        for user in USERS[:3]:
            assert without_key(context.query(module.Taste, user, ts=last)) == wanted(user)
            found = context.get_aggregates(module.Habits, user, ts=last)
            assert {name: found[name] for name in TYPES} == {name: wanted(user)[name] for name in TYPES}
        table = context.query_offline(module.Taste, spine)
        assert [without_key(row) for row in table.to_dicts()] == [wanted(user) for user in USERS]


def test_the_command_line_shows_entries(shop):
    shown = shop.run("query", "Taste", "-e", "user=a")
    assert shown.returncode == 0, shown.stderr
    entry = wanted("a")["pages"][0]
    line = next(line for line in shown.stdout.splitlines() if line.startswith("pages"))
    assert json.loads(line[len("pages") : line.rindex("]") + 1])[0] == entry
    done = shop.run("query", "Taste", "-e", "user=a", "-f", "csv")
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert json.loads(row["pages"]) == wanted("a")["pages"]
    assert json.loads(row["prices"]) == wanted("a")["prices"]
    assert row["often"] == str(wanted("a")["often"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "pages: list[TopKEntry[str]]\n",
            "pages: list[dict[str, str]]\n",
            "declare Habits.pages: list[TopKEntry[str]]",
        ),
        ("ratings: list[TopKEntry[int]]\n", "ratings: list[TopKEntry[str]]\n", "Habits.ratings: list[TopKEntry[int]]"),
        ("rating: int\n", "rating: int\n    tops: list[TopKEntry[int]]\n", "which only an aggregate gives"),
        (
            "    best: Optional[str]\n",
            "    best: Optional[str]\n    given: list[TopKEntry[int]] = feature(request=True)\n",
            "which only an aggregate gives",
        ),
    ],
)
def test_where_an_entry_cannot_stand(server, old, new, message):
    assert old in SOURCE
    done = server.commit(SOURCE.replace(old, new, 1))
    assert done.returncode == 4
    assert message in done.stderr
