"""A feature of every type is the same value whichever way it is asked for, as JSON and as an Arrow stream."""

from __future__ import annotations

import base64
import csv
import importlib.util
import json
import urllib.parse
import urllib.request
from datetime import datetime, timezone

import pyarrow as pa
import pytest

from surfaces import http
from thyme.arrow_types import to_pylist
from thyme.literals import micros_datetime
from thyme.times import as_micros

SOURCE = """
from datetime import datetime, timedelta
from typing import Optional

from thyme import (
    Count, Last, LastK, Max, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field,
    inputs, pipeline,
)


@dataset(index=True, version=1)
class Reading:
    meter: str = field(key=True)
    ts: datetime = field(timestamp=True)
    taken: datetime
    good: bool
    raw: bytes
    marks: dict[str, float]
    flags: dict[str, Optional[bool]]
    words: list[str]
    times: list[datetime]
    blobs: list[Optional[bytes]]
    note: Optional[bytes]


@dataset(index=True, version=1)
class Meters:
    meter: str = field(key=True)
    ts: datetime = field(timestamp=True)
    latest: datetime
    last_good: bool
    last_raw: bytes
    goods: list[bool]
    raws: list[bytes]
    n: int

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        return readings.groupby("meter").aggregate(
            latest=Max(of="taken", window="1d"),
            last_good=Last(of="good", window="1d"),
            last_raw=Last(of="raw", window="1d"),
            goods=LastK(of="good", window="1d", k=3),
            raws=LastK(of="raw", window="1d", k=3),
            n=Count(window="1d"),
        )


@featureset
class Meter:
    meter: str
    taken: datetime = feature(ref=Reading.taken)
    good: bool = feature(ref=Reading.good)
    raw: bytes = feature(ref=Reading.raw)
    marks: dict[str, float] = feature(ref=Reading.marks)
    flags: dict[str, Optional[bool]] = feature(ref=Reading.flags)
    words: list[str] = feature(ref=Reading.words)
    times: list[datetime] = feature(ref=Reading.times)
    blobs: list[Optional[bytes]] = feature(ref=Reading.blobs)
    note: Optional[bytes] = feature(ref=Reading.note)
    latest: datetime = feature(ref=Meters.latest)
    last_good: bool = feature(ref=Meters.last_good, default=True)
    last_raw: bytes = feature(ref=Meters.last_raw)
    goods: list[bool] = feature(ref=Meters.goods)
    raws: list[bytes] = feature(ref=Meters.raws)
    n: int = feature(ref=Meters.n)
    later: datetime
    turned: bytes
    ranks: dict[str, int]
    sure: bool

    @extractor
    @extractor_inputs("taken", "raw", "words", "good", "n")
    @extractor_outputs("later", "turned", "ranks", "sure")
    def compute(cls, ts, taken, raw, words, good, n):
        return {
            "later": taken + timedelta(microseconds=1),
            "turned": bytes(reversed(raw)),
            "ranks": {word: place for place, word in enumerate(words)},
            "sure": bool(good) and n > 1,
        }
"""
READINGS = [
    {
        "meter": "a", "ts": "2026-01-15T12:00:00Z", "taken": datetime(1969, 12, 31, 23, 59, 59, 999999, timezone.utc),
        "good": True, "raw": b"\x00\xff\xfe\x80 end", "marks": {"z": 0.1, "a": 1e-300}, "flags": {"x": None, "y": True},
        "words": ["", "naïve ☃", 'a "b"\n'], "times": [datetime(2026, 1, 15, 11, 0, 0, 1, timezone.utc)],
        "blobs": [b"", None, b"\x00"], "note": None,
    },
    {
        "meter": "a", "ts": "2026-01-15T12:30:00Z", "taken": datetime(2262, 1, 1, tzinfo=timezone.utc),
        "good": False, "raw": b"", "marks": {}, "flags": {}, "words": [], "times": [], "blobs": [], "note": b"\n",
    },
    {
        "meter": "b", "ts": "2026-01-15T12:10:00Z", "taken": datetime(2026, 1, 15, 12, 10, tzinfo=timezone.utc),
        "good": True, "raw": bytes(range(256)), "marks": {"one": -0.25}, "flags": {"": False}, "words": ["only"],
        "times": [], "blobs": [None], "note": b"",
    },
]  # fmt: skip
# Some have a row behind them, some do not have one yet, and one is of nobody: a default, or an error of the extractor.
ASKED = [
    ("a", "2026-01-15T12:15:00Z"), ("a", "2026-01-15T13:00:00Z"), ("b", "2026-01-15T13:00:00Z"),
    ("a", "2026-01-15T11:00:00Z"), ("b", "2026-01-17T13:00:00Z"), ("nobody", "2026-01-15T13:00:00Z"),
]  # fmt: skip
ARROW = "application/vnd.apache.arrow.stream"
DATETIMES, BYTES = ("taken", "times", "latest", "later"), ("raw", "blobs", "note", "last_raw", "raws", "turned")
TYPES = {
    "taken": datetime, "good": bool, "raw": bytes, "marks": dict, "flags": dict, "words": list, "times": list,
    "blobs": list, "latest": datetime, "last_good": bool, "last_raw": bytes, "goods": list, "raws": list, "n": int,
    "later": datetime, "turned": bytes, "ranks": dict, "sure": bool,
}  # fmt: skip


@pytest.fixture(scope="module")
def meters(tmp_path_factory):
    from harness import Server

    running = Server(tmp_path_factory.mktemp("meters")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        sent = client.log("Reading", READINGS)
        assert sent.rejected == []
        for meter in ("a", "b", "nobody"):
            client.query("Meter", meter, at_least=sent.position)
    yield running
    running.stop()


def plain(row):
    """To what is compared to the bit; a dict has no order. An aware time is its instant, whatever library made it."""

    def one(value):
        if isinstance(value, datetime):
            assert value.tzinfo is not None
            return f"instant {as_micros(value)}"
        if isinstance(value, dict):
            return {name: one(value[name]) for name in sorted(value)}
        return [one(item) for item in value] if isinstance(value, list) else value

    return {name: repr(one(value)) for name, value in row.items() if name != "meter" and "__" not in name}


def of_json(row):
    """JSON has no bytes and no times."""

    def one(name, value):
        if value is None:
            return None
        if isinstance(value, list):
            return [one(name, item) for item in value]
        if name in DATETIMES:
            assert value.endswith("Z")
            return micros_datetime(as_micros(value))
        return base64.b64decode(value, validate=True) if name in BYTES else value

    return {name: one(name, value) for name, value in row.items()}


def arrow(meters, path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{meters.queries}/{path}", data=data, headers={"accept": ARROW})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["content-type"] == ARROW
        assert response.headers["x-query-run-id"]
        return pa.ipc.open_stream(response.read()).read_all()


def split(row):
    """Values, and the status of each."""
    names = [name.removesuffix("__status") for name in row if name.endswith("__status")]
    return {name: row[name] for name in names}, {name: row[f"{name}__status"] for name in names}


def complete(statuses, names):
    return {name: statuses.get(name, "OK") for name in names}


def by_sdk(client, meter, ts):
    answer = client.query("Meter", meter, ts=ts)
    row = {name: value for name, value in answer.to_dicts()[0].items() if name != "meter"}
    return row, complete({name: found[0] for name, found in answer.statuses.items()}, row)


def by_http(meters, meter, ts):
    asked = {"featureset": "Meter", "meter": meter, "ts": ts}
    for way, body in (("GET", None), ("POST", asked)):
        query = "" if body else f"?{urllib.parse.urlencode(asked)}"
        code, answer = http(f"http://{meters.queries}/features{query}", body)
        assert code == 200, answer
        yield way, (of_json(answer["features"]), answer["statuses"])


def of_batch(meters, names_of, ts):
    """JSON and Arrow of one batch at one time."""
    body = {"featureset": "Meter", "entity_ids": names_of, "ts": ts, "statuses": True}
    _, answer = http(f"http://{meters.queries}/features/batch", body)
    names = answer["features"][1:]
    rows = [dict(zip(names, values[1:], strict=True)) for values in answer["values"]]
    statuses = [dict(zip(names, found, strict=True)) for found in answer["statuses"]]
    table = arrow(meters, "features/batch", body)
    assert table["meter"].to_pylist() == names_of
    return list(zip(map(of_json, rows), statuses, strict=True)), list(map(split, to_pylist(table)))


def of_spine(meters):
    """JSON and Arrow of all that is asked."""
    queries = [{"entity_id": meter, "timestamp": ts} for meter, ts in ASKED]
    body = {"featureset": "Meter", "queries": queries, "statuses": True}
    _, answer = http(f"http://{meters.queries}/features/offline", body)
    rows = [(of_json(row["features"]), row["statuses"]) for row in answer["results"]]
    table = arrow(meters, "features/offline", body)
    assert table["meter"].to_pylist() == [meter for meter, _ in ASKED]
    return rows, list(map(split, to_pylist(table)))


def test_a_value_of_every_type_is_the_same_from_every_way_in(meters):
    from thyme.testing import MockContext

    spine = pa.table({"meter": [meter for meter, _ in ASKED], "timestamp": [ts for _, ts in ASKED]})
    spec = importlib.util.spec_from_file_location("features_of_meters", meters.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with meters.client() as client, MockContext() as mock:
        assert mock.add_events(module.Reading, READINGS).rejected == []
        single = [by_sdk(client, *asked) for asked in ASKED]
        exported = client.query_offline("Meter", spine, statuses=True).to_dicts()
        mocked = mock.query_offline(module.Meter, spine, statuses=True).to_dicts()
        offline, offline_arrow = of_spine(meters)
        for number, (meter, ts) in enumerate(ASKED):
            answer = mock.query(module.Meter, meter, ts=ts)
            batch, batch_arrow = of_batch(meters, [meter], ts)
            ways = {
                "export": split(exported[number]),
                "mock": (dict(answer), complete(answer.statuses, answer)),
                "export, mock": split(mocked[number]),
                "batch": batch[0],
                "batch, Arrow": batch_arrow[0],
                "offline": offline[number],
                "offline, Arrow": offline_arrow[number],
                **dict(by_http(meters, meter, ts)),
            }
            values, statuses = single[number]
            for way, (found, found_statuses) in ways.items():
                assert plain(found) == plain(values), (way, meter, ts)
                assert found_statuses == statuses, (way, meter, ts)

    # What the ways agree on is what was sent.
    values, statuses = single[0]
    sent = {name: value for name, value in READINGS[0].items() if name not in ("meter", "ts")}
    assert {name: values[name] for name in sent} == sent
    assert {name: type(values[name]) for name in TYPES} == TYPES
    assert (values["turned"], values["sure"]) == (b"dne \x80\xfe\xff\x00", False)
    assert values["later"] == datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert values["ranks"] == {"": 0, "naïve ☃": 1, 'a "b"\n': 2}
    assert set(statuses.values()) == {"OK"}
    assert single[1][0]["raws"] == [b"", b"\x00\xff\xfe\x80 end"]
    nobody, statuses = single[5]
    assert (nobody["raw"], nobody["last_good"], nobody["goods"]) == (None, True, [])
    assert (statuses["raw"], statuses["last_good"], statuses["later"]) == ("DEFAULT", "DEFAULT", "ERROR")


def test_a_batch_is_the_same_as_json_and_as_an_arrow_stream(meters):
    names = ["b", "nobody", "a", "b"]
    as_json, as_arrow = of_batch(meters, names, ASKED[2][1])
    assert len(as_json) == len(as_arrow) == 4
    for (values, statuses), (found, found_statuses) in zip(as_json, as_arrow, strict=True):
        assert plain(found) == plain(values)
        assert found_statuses == statuses
    assert {status for _, statuses in as_arrow for status in statuses.values()} == {"OK", "DEFAULT", "ERROR"}


def test_an_arrow_stream_has_the_types_of_the_features_and_statuses_only_if_asked(meters):
    body = {"featureset": "Meter", "entity_ids": ["a"], "ts": ASKED[0][1]}
    table = arrow(meters, "features/batch", body)
    assert not [name for name in table.column_names if name.endswith("__status")]
    types = {field.name: field.type for field in table.schema}
    assert types["good"] == pa.bool_() and types["n"] == pa.int64()
    assert types["taken"] == pa.timestamp("us", "UTC")
    assert pa.types.is_binary(types["raw"]) or pa.types.is_large_binary(types["raw"])
    assert pa.types.is_list(types["words"])
    # A mistake is told as it is to others.
    with pytest.raises(urllib.error.HTTPError) as refused:
        arrow(meters, "features/batch", {**body, "entity_ids": [7]})
    assert refused.value.headers["content-type"].startswith("application/problem+json")
    assert "expected str, got 7" in json.loads(refused.value.read())["error"]


def test_a_command_prints_them_as_http_does(meters):
    meter, ts = ASKED[0]
    printed = meters.data("query", "Meter", "-e", meter, "--at", ts)["features"]
    query = urllib.parse.urlencode({"featureset": "Meter", "meter": meter, "ts": ts})
    assert printed == http(f"http://{meters.queries}/features?{query}")[1]["features"]
    assert printed["raw"] == base64.b64encode(READINGS[0]["raw"]).decode()


def test_a_file_of_rows_has_a_dict_as_an_object(meters):
    spine = "".join(json.dumps({"meter": meter, "timestamp": ts}) + "\n" for meter, ts in ASKED[:2])
    asked = ("query-offline", "Meter", "--input", "-", "--format", "jsonl", "--features", "marks,ranks,words", "-o")
    for name in ("joined.jsonl", "joined.csv"):
        done = meters.run(*asked, name, stdin=spine)
        assert done.returncode == 0, done.stderr
    wanted = [
        {"marks": {"z": 0.1, "a": 1e-300}, "ranks": {"": 0, "naïve ☃": 1, 'a "b"\n': 2}, "words": READINGS[0]["words"]},
        {"marks": {}, "ranks": {}, "words": []},
    ]
    lines = (meters.directory / "joined.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [{name: row[name] for name in wanted[0]} for row in rows] == wanted
    with open(meters.directory / "joined.csv", encoding="utf-8", newline="") as file:
        rows = [{name: json.loads(row[name]) for name in wanted[0]} for row in csv.DictReader(file)]
    assert rows == wanted
