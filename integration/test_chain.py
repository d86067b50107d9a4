"""A pipeline on the rows of another: every answer is that of a brute force over both, whatever dies between, whoever
asks, and after an erase."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext

from harness import wait_until
from surfaces import share
from test_kafka_nodes import asking, both, is_serving, owner_of, owns
from thyme import positions

FEATURES = """
from datetime import datetime
from typing import Optional

from thyme import Count, Max, Sum, col, dataset, feature, featureset, field, inputs, lit, pipeline


@dataset(index=True, version=1, max_lateness="2d")
class Trade:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: int


@dataset(index=True, version=1)
class UserHour:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    spent: int

    @pipeline(version=1)
    @inputs(Trade)
    def compute(cls, trades):
        return trades.filter(col("amount") > 0).groupby("user").aggregate(
            n=Count(window="1h"), spent=Sum(of="amount", window="6h")
        )


@dataset(index=True, version=1)
class UserPeak:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    most: Optional[int]

    @pipeline(version=1)
    @inputs(UserHour)
    def compute(cls, hours):
        return hours.groupby("user").aggregate(most=Max(of="spent", window="1d"))


@dataset(index=True, version=1)
class Level:
    n: int = field(key=True)
    ts: datetime = field(timestamp=True)
    rows: int
    most: Optional[int]
    total: int

    @pipeline(version=1)
    @inputs(UserHour)
    def compute(cls, hours):
        return hours.filter(col("spent") > 2).groupby("n").aggregate(
            rows=Count(window="1d"), most=Max(of="spent", window="1d"), total=Sum(of="spent", window="forever")
        )


@dataset(index=True, version=1)
class Everything:
    scope: str = field(key=True)
    ts: datetime = field(timestamp=True)
    rows: int

    @pipeline(version=1)
    @inputs(Level)
    def compute(cls, levels):
        return levels.assign(scope=lit("all")).groupby("scope").aggregate(rows=Count(window="forever"))


@featureset
class User:
    user: str
    most: Optional[int] = feature(ref=UserPeak.most)


@featureset
class OfLevel:
    n: int
    rows: int = feature(ref=Level.rows)
    most: Optional[int] = feature(ref=Level.most)
    total: int = feature(ref=Level.total)


@featureset
class All:
    scope: str
    rows: int = feature(ref=Everything.rows)
"""
START = datetime(2026, 3, 1, tzinfo=timezone.utc)
USERS = [f"user_{number}" for number in range(7)]
LEVELS = range(1, 9)
EXACT = Context(prec=60)


def trades(chance: random.Random, count: int) -> list[dict[str, object]]:
    """In no order of time, on minutes, so that many lie at the end of a window."""
    return [
        {
            "user": chance.choice(USERS),
            "ts": START + timedelta(minutes=chance.randrange(30 * 60)),
            "amount": chance.randrange(-1, 6),
        }
        for _ in range(count)
    ]


def rows_of(sent: list[dict[str, object]]) -> list[dict[str, object]]:
    """What the first pipeline makes: per trade the figures of its user as of then, over what had come."""
    made = []
    for index, trade in enumerate(sent):
        if trade["amount"] <= 0:
            continue
        at = trade["ts"]
        known = [one for one in sent[: index + 1] if one["user"] == trade["user"] and one["amount"] > 0]
        n = sum(at - timedelta(hours=1) <= one["ts"] <= at for one in known)
        spent = sum(one["amount"] for one in known if at - timedelta(hours=6) <= one["ts"] <= at)
        made.append({"user": trade["user"], "ts": at, "n": n, "spent": spent})
    return made


def level(made: list[dict[str, object]], n: int, at: datetime) -> dict[str, object]:
    counted = [row for row in made if row["n"] == n and row["spent"] > 2 and row["ts"] <= at]
    day = [row["spent"] for row in counted if row["ts"] >= at - timedelta(days=1)]
    return {"n": n, "rows": len(day), "most": max(day, default=None), "total": sum(row["spent"] for row in counted)}


def peak(made: list[dict[str, object]], user: str, at: datetime) -> dict[str, object]:
    day = [row["spent"] for row in made if row["user"] == user and at - timedelta(days=1) <= row["ts"] <= at]
    return {"user": user, "most": max(day, default=None)}


def check(
    client, sent, chance: random.Random, at_least: str | None = None, known_at: str | None = None, exporting=None
) -> None:
    """Exports are made by who holds everything: this one, or a replica, which comes to where this one is."""
    made = rows_of(sent)
    now = max(trade["ts"] for trade in sent)
    for at in [now, *(START + timedelta(minutes=chance.randrange(31 * 60)) for _ in range(6))]:
        found = client.query_batch("OfLevel", list(LEVELS), ts=at, at_least=at_least, known_at=known_at).to_dicts()
        assert found == [level(made, n, at) for n in LEVELS], at
    spine = [
        {"user": chance.choice(USERS), "timestamp": START + timedelta(minutes=chance.randrange(1800))}
        for _ in range(50)
    ]
    if exporting is not None:
        wait_until(lambda: exporting.query("All", "all").commit_id == client.query("All", "all").commit_id)
        exporting.query_batch("OfLevel", list(LEVELS), at_least=at_least)
    exported = (exporting or client).query_offline("User", spine, entity_column="user", known_at=known_at)
    found = exported.to_dicts()
    wanted = [peak(made, row["user"], row["timestamp"]) for row in spine]
    assert [{"user": row["user"], "most": row["most"]} for row in found] == wanted
    counted = sum(row["spent"] > 2 for row in made)
    assert client.query("All", "all", ts=now, known_at=known_at).to_dicts()[0]["rows"] == counted


def test_answers_are_those_of_a_brute_force_over_both(make_server):
    chance = random.Random(11)
    server = make_server().start()
    done = server.commit(FEATURES)
    assert done.returncode == 0, done.stderr
    assert "rows of UserHour@1 by compute@1, by n" in done.stdout, done.stdout
    sent: list[dict[str, object]] = []
    position = ""
    for turn in range(4):
        with server.client(retry_for=60) as client:
            for _ in range(3):
                batch = trades(chance, 40)
                position = positions.merge([position, client.log("Trade", batch).position])
                sent.extend(batch)
            if turn % 2 == 0:
                server.kill()
                server.start()
            check(client, sent, chance, at_least=position)

    with server.client() as client:
        # As of the position that an answer carried: what came afterwards is not there, whatever it changes.
        answer = client.query_batch("OfLevel", list(LEVELS), ts=START + timedelta(hours=20))
        late = trades(chance, 40)
        position = positions.merge([position, client.log("Trade", late).position])
        known = client.query_batch(
            "OfLevel", list(LEVELS), ts=START + timedelta(hours=20), known_at=answer.position, at_least=position
        )
        assert known.to_dicts() == answer.to_dicts()
        check(client, [*sent, *late], chance, at_least=position)
        sent.extend(late)

        # The events behind a row of rows are the trades.
        explained = server.data("explain", "OfLevel", "-e", "1")
        assert "ts" in str(explained), explained
        assert server.data("rebuild")["equal"]

        # As if the trades of a user had never been accepted: also where rows of several users were counted.
        assert client.erase("Trade", [USERS[3]]).pending
        wait_until(lambda: not client.erase("Trade", []).pending)
        sent = [trade for trade in sent if trade["user"] != USERS[3]]
        check(client, sent, chance)
        more = trades(chance, 60)
        position = client.log("Trade", more).position
        sent.extend(more)
        check(client, sent, chance, at_least=position)
    assert server.data("rebuild")["equal"]
    server.kill()
    server.start()
    with server.client(retry_for=60) as client:
        check(client, sent, chance)


@both
def test_a_chain_goes_on_whichever_server_dies(broker, postgres, make_server, slices):
    env = {**broker.log(f"chain{slices}", slices), "THYME_CATALOG__URL": postgres.fresh()}
    servers = [make_server(name, env=env).start() for name in ("first", "second")]
    replica = make_server("replica", env=env).start("--role", "query")
    wait_until(lambda: share(servers))
    done = owner_of(servers).commit(FEATURES)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: all(map(is_serving, servers)))

    def checked(server, at_least=None):
        with server.client(retry_for=180) as client, asking(replica, server, retry_for=180) as exporting:
            check(client, sent, chance, at_least=at_least, exporting=exporting if slices > 1 else None)

    chance = random.Random(23)
    sent: list[dict[str, object]] = []
    position = ""
    for turn in range(3):
        for server in servers:
            with server.client(retry_for=180) as client:
                batch = trades(chance, 60)
                position = positions.merge([position, client.log("Trade", batch).position])
                sent.extend(batch)
        owner = owner_of(servers)
        owner.kill()
        if turn == 1:
            # Away for so long that the other takes over.
            other = servers[1 - servers.index(owner)]
            wait_until(lambda other=other: owns(other))
        owner.start()
        wait_until(lambda: any(owns(server) for server in servers))
        for server in servers:
            server.wait_ready()
            checked(server, at_least=position)

    # From the start of the log, with the rows that are there.
    owner = owner_of(servers)
    owner.stop()
    owner.lose_state()
    owner.start()
    owner.wait_ready()
    checked(owner, at_least=position)

    # An erase makes logs of rows anew; a follower takes over as the owner does.
    with owner_of(servers).client(retry_for=180) as client:
        position = positions.merge([position, client.erase("Trade", [USERS[0]]).position])
    sent = [trade for trade in sent if trade["user"] != USERS[0]]
    for server in servers:
        with server.client(retry_for=180) as client:
            wait_until(lambda client=client: not client.erase("Trade", []).pending)
        checked(server, at_least=position)


def test_what_is_refused_says_the_way(make_server):
    server = make_server().start()
    assert server.commit(FEATURES).returncode == 0

    changed = FEATURES.replace('n=Count(window="1h")', 'n=Count(window="2h")').replace(
        "@pipeline(version=1)\n    @inputs(Trade)", "@pipeline(version=2)\n    @inputs(Trade)"
    )
    done = server.commit(changed)
    assert (
        done.returncode == 1 and "it reads UserHour@1 by compute@2 instead of UserHour@1 by compute@1" in done.stderr
    ), done
    done = server.commit(
        changed.replace("@inputs(UserHour)", "@inputs(UserHour)").replace(
            "@pipeline(version=1)", "@pipeline(version=2)"
        )
    )
    assert done.returncode == 0, done.stderr

    emitting = FEATURES.replace("@pipeline(version=1)", "@pipeline(version=3)")
    for name, refused in [("class UserPeak", False), ("class Everything", True)]:
        asked = emitting.replace(
            f"@dataset(index=True, version=1)\n{name}", f"@dataset(index=True, version=1, emit=True)\n{name}"
        )
        done = server.commit(asked)
        assert (done.returncode != 0) == refused, done
        assert not refused or "emit of 'Everything' needs a log that stays" in done.stderr, done.stderr

    bounded = FEATURES.replace('max_lateness="2d")', 'max_lateness="2d", history="30d")')
    done = server.commit(bounded)
    assert done.returncode != 0 and "the rows of 'UserHour' need all events of 'Trade'" in done.stderr, done.stderr


DECIMALS = """
from datetime import datetime
from decimal import Decimal
from typing import Optional

from thyme import Count, Last, LastK, Max, Sum, col, dataset, feature, featureset, field, inputs, pipeline


@dataset(index=True, version=1)
class Payment:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: Decimal


@dataset(index=True, version=1)
class Wallet:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    total: Decimal
    newest: list[Decimal]

    @pipeline(version=1)
    @inputs(Payment)
    def compute(cls, payments):
        return payments.groupby("user").aggregate(
            total=Sum(of="amount", window="1d"), newest=LastK(of="amount", window="1d", k=2)
        )


@dataset(index=True, version=1)
class Balance:
    total: Decimal = field(key=True)
    ts: datetime = field(timestamp=True)
    times: int
    newest: Optional[list[Decimal]]

    @pipeline(version=1)
    @inputs(Wallet)
    def compute(cls, wallets):
        return wallets.groupby("total").aggregate(
            times=Count(window="forever"), newest=Last(of="newest", window="forever")
        )


@dataset(index=True, version=1)
class Peak:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    most: Optional[Decimal]
    sums: Decimal

    @pipeline(version=1)
    @inputs(Wallet)
    def compute(cls, wallets):
        less = col("total") - Decimal("0.000000000000000001")
        return wallets.assign(less=less).groupby("user").aggregate(
            most=Max(of="total", window="1d"), sums=Sum(of="less", window="forever")
        )


@featureset
class OfBalance:
    total: Decimal
    times: int = feature(ref=Balance.times)
    newest: Optional[list[Decimal]] = feature(ref=Balance.newest)


@featureset
class OfUser:
    user: str
    most: Optional[Decimal] = feature(ref=Peak.most)
    sums: Decimal = feature(ref=Peak.sums)
"""


def test_rows_carry_decimals(server):
    """Also as the key that rows are grouped by; a sum beyond a Decimal is null in a row."""
    done = server.commit(DECIMALS)
    assert done.returncode == 0, done.stderr
    chance = random.Random(5)
    # No text of an amount tells its sum: 0.10 and 0.1 are equal, and most sums have been reached by several ways.
    amounts = [Decimal(text) for text in ("0.10", "0.1", "-0.1", "0.000000000000000001", "70", "12345678901234567.89")]
    sent = [
        {"user": f"user_{number % 3}", "ts": START + timedelta(minutes=number), "amount": chance.choice(amounts)}
        for number in range(90)
    ]
    great = Decimal("99999999999999999999")
    over = [{"user": "great", "ts": START + timedelta(minutes=100 + turn), "amount": great} for turn in range(2)]
    with server.client() as client:
        position = client.log("Payment", [*sent, *over]).position
        rows = []
        for index, payment in enumerate(sent):
            known = [one["amount"] for one in sent[: index + 1] if one["user"] == payment["user"]]
            with localcontext(EXACT):
                rows.append({"user": payment["user"], "total": sum(known, Decimal(0)), "newest": known[::-1][:2]})
        totals = sorted({row["total"] for row in rows})
        assert len(totals) < len(rows)
        ask = {"ts": START + timedelta(hours=3), "at_least": position}
        found = client.query_batch("OfBalance", [*totals, great, Decimal("7.5")], **ask).to_dicts()
        for total, answer in zip(totals, found, strict=False):
            of_total = [row for row in rows if row["total"] == total]
            assert answer == {"total": total, "times": len(of_total), "newest": of_total[-1]["newest"]}
        assert [answer["times"] for answer in found[-2:]] == [1, 0], "the second sum is beyond a Decimal"
        less = Decimal("0.000000000000000001")
        for user in ("user_0", "user_1", "user_2"):
            of_user = [row["total"] for row in rows if row["user"] == user]
            with localcontext(EXACT):
                wanted = {
                    "user": user,
                    "most": max(of_user),
                    "sums": sum((total - less for total in of_user), Decimal(0)),
                }
            assert client.query("OfUser", user, **ask).to_dicts() == [wanted]
        with localcontext(EXACT):
            wanted = {"user": "great", "most": great, "sums": great - less}
        assert client.query("OfUser", "great", **ask).to_dicts() == [wanted]
    assert server.data("rebuild")["equal"]
