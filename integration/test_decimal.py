"""Decimals: exact over every way in and out, equal however they are written, refused where digits would be lost."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import random
import urllib.parse
import urllib.request
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal

import grpc
import pyarrow as pa
import pytest

from surfaces import exchange, http, put

SOURCE = """
from datetime import datetime
from decimal import Decimal
from typing import Optional

from thyme import (
    Avg, Count, CountDistinct, First, Last, LastK, Max, Min, Stddev, Sum, TopK, TopKEntry, col, dataset, extractor,
    extractor_inputs, extractor_outputs, feature, featureset, field, inputs, pipeline,
)


@dataset(index=True, version=1)
class Payment:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: Decimal
    fee: Optional[Decimal]
    shares: Optional[list[Decimal]]


@dataset(index=True, version=1)
class Wallet:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    total: Decimal
    net: Decimal
    doubled: Decimal
    ratio: float
    mean: float
    spread: float
    least: Decimal
    most: Decimal
    first: Decimal
    last_fee: Optional[Decimal]
    newest: list[Decimal]
    kinds: int
    often: list[TopKEntry[Decimal]]
    large: int

    @pipeline(version=1)
    @inputs(Payment)
    def compute(cls, payments):
        fee = col("fee").fill_null(Decimal("0.000000000000000003"))
        return (
            payments.filter(col("amount") != 0)
            .assign(net=col("amount") - fee, doubled=col("amount") * 2, ratio=fee / col("amount"))
            .groupby("user")
            .aggregate(
                total=Sum(of="amount", window="1d"),
                net=Sum(of="net", window="1d"),
                doubled=Sum(of="doubled", window="1d"),
                ratio=Max(of="ratio", window="1d"),
                mean=Avg(of="amount", window="1d"),
                spread=Stddev(of="amount", window="1d"),
                least=Min(of="amount", window="1d"),
                most=Max(of="amount", window="1d", default=Decimal("-1.5")),
                first=First(of="amount", window="1d"),
                last_fee=Last(of="fee", window="1d"),
                newest=LastK(of="amount", window="1d", k=3),
                kinds=CountDistinct(of="amount", window="1d"),
                often=TopK(of="amount", window="1d", k=2),
                large=Count(window="1d", where=col("amount") >= Decimal("10.10")),
            )
        )


@dataset(index=True, version=1)
class Price:
    amount: Decimal = field(key=True)
    ts: datetime = field(timestamp=True)
    payments: int

    @pipeline(version=1)
    @inputs(Payment)
    def compute(cls, payments):
        return payments.groupby("amount").aggregate(payments=Count(window="1d"))


@featureset
class Money:
    user: str
    limit: Decimal = feature(request=True)
    total: Decimal = feature(ref=Wallet.total)
    net: Decimal = feature(ref=Wallet.net)
    doubled: Decimal = feature(ref=Wallet.doubled)
    ratio: float = feature(ref=Wallet.ratio)
    mean: float = feature(ref=Wallet.mean)
    spread: float = feature(ref=Wallet.spread)
    least: Decimal = feature(ref=Wallet.least)
    most: Decimal = feature(ref=Wallet.most)
    first: Decimal = feature(ref=Wallet.first)
    last_fee: Optional[Decimal] = feature(ref=Wallet.last_fee)
    newest: list[Decimal] = feature(ref=Wallet.newest)
    kinds: int = feature(ref=Wallet.kinds)
    often: list[TopKEntry[Decimal]] = feature(ref=Wallet.often)
    large: int = feature(ref=Wallet.large)
    lowest: Decimal = feature(ref=Wallet.least, default=Decimal("0.00"))
    oldest: Decimal = feature(ref=Wallet.first, default=7)
    left: Decimal
    twice: list[Decimal]

    @extractor
    @extractor_inputs("limit", "total")
    @extractor_outputs("left")
    def rest(cls, ts, limit, total):
        return limit - total

    @extractor(batch=True)
    @extractor_inputs("newest")
    @extractor_outputs("twice")
    def double(cls, ts, newest):
        return [[amount * 2 for amount in row] for row in newest.to_pylist()]


@featureset
class Prices:
    amount: Decimal
    payments: int = feature(ref=Price.payments)
"""

ARROW = pa.decimal128(38, 18)
START = datetime(2025, 6, 1, tzinfo=timezone.utc)
LAST = START + timedelta(minutes=119)
USERS = ["a", "b", "c", "nobody"]
LIMIT = Decimal("1000.25")
AMOUNTS = [
    "0.10",
    "0.1",
    "12.345678901234567891",
    "-99999999999999.5",
    "99999999999999.5",
    "10.10",
    "10.1",
    "10.09",
    "0",
]
EXACT = Context(prec=200)
NATIVE = [
    "total", "net", "doubled", "ratio", "mean", "spread", "least", "most", "first", "last_fee", "newest", "kinds",
    "often", "large",
]  # fmt: skip


def payments() -> list[dict]:
    chance = random.Random(7)
    made = []
    for number in range(120):
        fee = chance.choice([None, Decimal("0.000000000000000001"), Decimal("1.50")])
        amount = Decimal(chance.choice(AMOUNTS))
        ts = START + timedelta(minutes=number)
        made.append({"user": USERS[number % 3], "ts": ts, "amount": amount, "fee": fee, "shares": None})
    made[5]["shares"] = [Decimal("0.25"), None, Decimal("1E+3")]
    return made


def nearest(number: Decimal) -> float:
    return float(number)


def wanted(user: str) -> dict[str, object]:
    """By brute force, in arithmetic of 200 digits."""
    rows = [row for row in payments() if row["user"] == user and row["amount"] != 0]
    amounts = [row["amount"] for row in rows]
    fees = [Decimal("0.000000000000000003") if row["fee"] is None else row["fee"] for row in rows]
    total = exact_sum(amounts)
    net = exact_sum([EXACT.subtract(amount, fee) for amount, fee in zip(amounts, fees, strict=True)])
    newest = amounts[::-1][:3]
    ranked = sorted(Counter(amounts).items(), key=lambda pair: (-pair[1], pair[0]))
    found: dict[str, object] = {
        "total": total,
        "net": net,
        "doubled": EXACT.multiply(total, Decimal(2)),
        "ratio": max((nearest(f) / nearest(a) for f, a in zip(fees, amounts, strict=True)), default=None),
        "mean": nearest(EXACT.divide(total, Decimal(len(rows)))) if rows else None,
        "spread": None,
        "least": min(amounts, default=None),
        "most": max(amounts, default=Decimal("-1.5")),
        "first": amounts[0] if rows else None,
        "last_fee": rows[-1]["fee"] if rows else None,
        "newest": newest,
        "kinds": len(set(amounts)),
        "often": [{"value": value, "count": count} for value, count in ranked[:2]],
        "large": sum(amount >= Decimal("10.1") for amount in amounts),
        "lowest": min(amounts, default=Decimal(0)),
        "oldest": amounts[0] if rows else Decimal(7),
        "left": LIMIT - total,  # Python's own arithmetic, of 28 digits
        "twice": [amount * 2 for amount in newest],
    }
    if rows:
        mean = EXACT.divide(total, Decimal(len(rows)))
        squares = [EXACT.multiply(EXACT.subtract(amount, mean), EXACT.subtract(amount, mean)) for amount in amounts]
        found["spread"] = math.sqrt(nearest(EXACT.divide(exact_sum(squares), Decimal(len(rows)))))
    return found


def exact_sum(numbers: list[Decimal]) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def native(user: str) -> dict[str, object]:
    return {name: wanted(user)[name] for name in NATIVE}


def plain(value):
    """As JSON shows it: the digits, without zeros at the end."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def features(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("user", "timestamp", "limit")}


def check_types(table: pa.Table) -> None:
    for name in ("total", "net", "doubled", "least", "most", "first", "last_fee"):
        assert table.schema.field(name).type == ARROW, name
    assert table.schema.field("newest").type.value_type == ARROW
    assert table.schema.field("often").type.value_type == pa.struct([("value", ARROW), ("count", pa.int64())])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The payments of the three users, each sent another way: the same rows in the same order."""
    from harness import Server

    server = Server(tmp_path_factory.mktemp("decimal")).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    rows = {user: [row for row in payments() if row["user"] == user] for user in USERS}
    with server.client() as client:
        client.log("Payment", rows["a"])
        events = [{**plain(row), "ts": row["ts"].isoformat()} for row in rows["b"]]
        code, answer = http(f"http://{server.control}/api/v1/log", {"dataset": "Payment", "events": events})
        assert (code, answer["accepted"]) == (200, len(events)), answer
        assert put(server, pa.Table.from_pylist(rows["c"]), dataset="Payment")["accepted"] == len(rows["c"])
        # Sent as columns, because they are many and the types are known.
        position = client.log("Payment", [{**rows["a"][0], "user": "many", "amount": 3} for _ in range(150)]).position
        client.query("Money", "a", inputs={"limit": LIMIT}, at_least=position)
    yield server
    server.stop()


def test_every_way_in_gives_the_same_decimals(shop):
    from thyme import _proto
    from thyme.testing import MockContext
    from thyme.values import from_value, to_fields

    ask = {"inputs": {"limit": LIMIT}, "ts": LAST}
    spine = pa.table({"user": USERS, "timestamp": [LAST] * len(USERS), "limit": [LIMIT] * len(USERS)})
    with shop.client() as client:
        single = [client.query("Money", user, **ask) for user in USERS]
        batch = client.query_batch("Money", USERS, ts=LAST, inputs=[{"limit": LIMIT}] * len(USERS))
        exported = client.query_offline("Money", spine)
        looked_up = [client.lookup("Wallet", user, ts=LAST) for user in USERS]
        raw = client.lookup("Payment", "a", ts=START + timedelta(minutes=6)).to_dicts()[0]
        many = client.query("Money", "many", inputs={"limit": 1}, ts=LAST).to_dicts()[0]
    for row, user in enumerate(USERS):
        assert features(single[row].to_dicts()[0]) == wanted(user)
        assert features(batch.to_dicts()[row]) == wanted(user)
        assert features(exported.to_dicts()[row]) == wanted(user)
        found = looked_up[row].to_dicts()[0]
        assert {name: found[name] for name in NATIVE} == native(user)
    for result in (single[0], batch, exported, looked_up[0]):
        check_types(result.to_arrow())
        assert result.to_pandas()["total"].iloc[0] == wanted("a")["total"]
        assert result.to_polars()["newest"].to_list()[0] == wanted("a")["newest"]
        assert str(result.to_dicts()[0]["most"]) == "99999999999999.5", "no zeros at the end"
    assert raw["amount"] == payments()[6]["amount"]
    assert (many["total"], many["left"]) == (450, -449)

    # gRPC: texts.
    path, request, response = _proto.methods()["GetFeatures"]
    with grpc.insecure_channel(shop.queries) as channel:
        call = channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        inputs = to_fields({"limit": LIMIT})
        answer = call(request(featureset="Money", key=to_fields({"user": "nobody"}), inputs=inputs))
    told = {found.name: found.value for found in answer.features}
    assert told["most"].decimal_value == "-1.5"
    assert {name: from_value(value) for name, value in told.items()} == wanted("nobody")

    # HTTP: texts; many entities, as JSON and as Arrow.
    for user in USERS:
        query = urllib.parse.urlencode(
            {"featureset": "Money", "user": user, "ts": LAST.isoformat(), "features": ",".join(NATIVE)}
        )
        code, answer = http(f"http://{shop.queries}/features?{query}")
        assert code == 200 and answer["features"] == plain(native(user))
    body = {"featureset": "Money", "entity_ids": USERS, "ts": LAST.isoformat(), "features": NATIVE}
    for accept in ("application/json", "application/vnd.apache.arrow.stream"):
        headers = {"Content-Type": "application/json", "Accept": accept}
        asked = urllib.request.Request(f"http://{shop.queries}/features/batch", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked) as response:
            content = response.read()
        if accept == "application/json":
            names = json.loads(content)["features"]
            rows = [dict(zip(names, row, strict=True)) for row in json.loads(content)["values"]]
            assert [{name: row[name] for name in NATIVE} for row in rows] == [plain(native(user)) for user in USERS]
        else:
            table = pa.ipc.open_stream(content).read_all()
            check_types(table)
            assert [features(row) for row in table.to_pylist()] == [native(user) for user in USERS]

    # A stock Flight client.
    table = exchange(shop, spine, featureset="Money", timestamp_column="timestamp", features=NATIVE)
    check_types(table)
    assert [features(row) for row in table.to_pylist()] == [native(user) for user in USERS]

    spec = importlib.util.spec_from_file_location("features_of_decimal", shop.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with MockContext() as context:
        assert context.add_events(module.Payment, payments()).rejected == []
        for user in USERS:
            assert features(context.query(module.Money, user, ts=LAST, inputs={"limit": LIMIT})) == wanted(user)
        table = context.query_offline(module.Money, spine)
        assert [features(row) for row in table.to_dicts()] == [wanted(user) for user in USERS]


def test_equal_numbers_are_one_key(shop):
    count = sum(row["amount"] == Decimal("10.1") for row in payments())
    with shop.client() as client:
        for key in (Decimal("10.1"), Decimal("10.100")):
            answer = client.query("Prices", key, ts=LAST).to_dicts()[0]
            assert answer == {"amount": Decimal("10.1"), "payments": count}
        spine = pa.table({"amount": pa.array([Decimal("10.10"), Decimal("5")], pa.decimal128(9, 2)), "ts": [LAST] * 2})
        exported = client.query_offline("Prices", spine, timestamp_column="ts").to_dicts()
    assert [row["payments"] for row in exported] == [count, 0]
    for text in ("10.1", "10.10", "1.01e1"):
        code, answer = http(
            f"http://{shop.queries}/features?featureset=Prices&amount={text}&ts={LAST:%Y-%m-%dT%H:%M:%SZ}"
        )
        assert code == 200 and answer["entity_id"] == "10.1" and answer["features"]["payments"] == count
    code, problem = http(f"http://{shop.queries}/features", {"featureset": "Prices", "amount": 10.1})
    assert (code, problem["code"]) == (400, "invalid_argument")
    assert "expected Decimal, got 10.1" in problem["error"] and "write it as text" in problem["detail"], problem
    shown = shop.data("query", "Prices", "-e", "amount=10.100", "--at", f"{LAST:%Y-%m-%dT%H:%M:%SZ}")
    assert "10.1" in json.dumps(shown) and str(count) in json.dumps(shown)


def test_the_command_line_shows_digits(shop):
    at = f"{LAST:%Y-%m-%dT%H:%M:%SZ}"
    shown = shop.run("lookup", "Wallet", "-e", "user=a", "--at", at)
    assert shown.returncode == 0, shown.stderr
    assert plain(wanted("a")["total"]) in shown.stdout
    done = shop.run("lookup", "Wallet", "-e", "user=a", "--at", at, "-f", "csv")
    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert row["total"] == plain(wanted("a")["total"])
    assert json.loads(row["newest"]) == plain(wanted("a")["newest"])
    done = shop.run("lookup", "Wallet", "-e", "user=a", "--at", at, "-f", "parquet", "-o", "wallet.parquet")
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    table = pq.read_table(shop.directory / "wallet.parquet")
    check_types(table)
    assert table.column("net").to_pylist() == [wanted("a")["net"]]
    # A spine of CSV, whose text is read by the key's type.
    (shop.directory / "prices.csv").write_text(f"amount,ts\n10.10,{at}\n3.5,{at}\n", encoding="utf-8")
    options = ["--input", "prices.csv", "--entity-column", "amount", "--timestamp-column", "ts", "-o", "joined.csv"]
    done = shop.run("query-offline", "Prices", *options)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO((shop.directory / "joined.csv").read_text(encoding="utf-8"))))
    count = sum(row["amount"] == Decimal("10.1") for row in payments())
    assert [row["payments"] for row in rows] == [str(count), "0"]
    assert [Decimal(row["amount"]) for row in rows] == [Decimal("10.1"), Decimal("3.5")]


BAD = [
    (Decimal("NaN"), "'amount': NaN is not a value"),
    (Decimal("-Infinity"), "'amount': -Infinity is not a value"),
    (Decimal("123456789012345678901"), "has 21 digits before the point, a Decimal at most 20"),
    (Decimal("0.1234567890123456789"), "has 19 digits after the point, a Decimal at most 18"),
    (0.1, "'amount': expected Decimal, got the float 0.1 (hint: send a Decimal or its text"),
    ("1,5", "'amount': expected Decimal, got '1,5'"),
    (True, "'amount': expected Decimal, got the bool true"),
    (None, "declare it Optional[Decimal] to allow null"),
]


def test_bad_numbers_are_told_and_count_nothing(shop):
    row = {"ts": START, "fee": None, "shares": None}
    with shop.client() as client:
        rows = [{**row, "user": "bad", "amount": amount} for amount, _ in BAD]
        done = client.log("Payment", [*rows, {**row, "user": "bad", "amount": Decimal("1.25")}])
        assert done.accepted == 1
        for found, (amount, says) in zip(done.rejected, BAD, strict=True):
            assert found.field == "amount" and says in found.reason, (amount, found.reason)
        answer = client.query("Money", "bad", inputs={"limit": 1}, ts=LAST, at_least=done.position)
        assert answer.to_dicts()[0]["total"] == Decimal("1.25")
        # Beyond the range a sum is an error, never another number.
        great = Decimal("99999999999999999999.999999999999999999")
        rows = [{**row, "user": "great", "ts": START + timedelta(hours=hour), "amount": great} for hour in (0, 1)]
        position = client.log("Payment", rows).position
        over = client.query("Money", "great", inputs={"limit": 1}, ts=LAST, at_least=position)
        found = over.to_dicts()[0]
        assert (found["total"], found["mean"], found["most"], found["spread"]) == (None, 1e20, great, 0.0)
        assert over.errors["total"][0] == "the sum is beyond a Decimal, which has 20 digits before the point"
        assert over.statuses["left"] == ["ERROR"] and found["doubled"] == 0, "each product is null, and counted"
        one = client.query("Money", "great", inputs={"limit": 1}, ts=START).to_dicts()[0]
        assert one["total"] == great
    events = [{**row, "ts": START.isoformat(), "user": "http", "amount": 1.5}]
    code, answer = http(f"http://{shop.control}/api/v1/log", {"dataset": "Payment", "events": events})
    assert code == 200 and answer["accepted"] == 0
    assert "expected Decimal, got 1.5 (hint: write it as text" in answer["rejected"][0]["reason"]


def test_a_restart_changes_no_bit(shop):
    ask = {"inputs": [{"limit": LIMIT}] * len(USERS), "ts": LAST}
    with shop.client() as client:
        before = client.query_batch("Money", USERS, **ask).to_arrow()
    shop.kill()
    shop.start()
    with shop.client(retry_for=60) as client:
        after = client.query_batch("Money", USERS, **ask).to_arrow()
    assert after.equals(before.cast(after.schema))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("total: Decimal\n", "total: float\n", "declare Wallet.total: Decimal, or aggregate to_float of the column"),
        ("mean: float\n", "mean: Decimal\n", "declare Wallet.mean: float"),
        ('col("amount") * 2', 'col("amount") * 0.5', "'mul' takes numbers that are all exact or all floats"),
        ('Decimal("10.10")', 'Decimal("NaN")', "NaN is not a value"),
        ('Decimal("10.10")', 'Decimal("1e30")', "1E+30 has too many digits for a Decimal"),
    ],
)
def test_what_a_definition_cannot_say(server, old, new, message):
    assert old in SOURCE
    done = server.commit(SOURCE.replace(old, new, 1))
    assert done.returncode == 4
    assert message in done.stderr, done.stderr
