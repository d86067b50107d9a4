"""Pins on a real server: an export asked again after late events, commits and a loss of state; what breaks a pin."""

from __future__ import annotations

import pyarrow as pa
import pytest

from harness import Server, wait_until
from surfaces import exchange
from thyme.errors import FailedPreconditionError, OutOfRangeError

SOURCE = """
from datetime import datetime

from thyme import (
    Count, Sum, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field, inputs, pipeline,
)


@dataset(index=True, version=1, max_lateness="1h", history="10h")
class Sale:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    shop: str
    amount: float


@dataset(index=True, version=1)
class UserStats:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    spent: float

    @pipeline(version=1)
    @inputs(Sale)
    def compute(cls, sales):
        return sales.groupby("user").aggregate(spent=Sum(of="amount", window="2h"))


@dataset(index=True, version=1)
class ShopStats:
    shop: str = field(key=True)
    ts: datetime = field(timestamp=True)
    sales: int

    @pipeline(version=1)
    @inputs(Sale)
    def compute(cls, sales):
        return sales.groupby("shop").aggregate(sales=Count(window="2h"))


@featureset
class Features:
    user: str
    shop: str
    spent: float = feature(ref=UserStats.spent)
    sales: int = feature(ref=ShopStats.sales)
    looked_up: float

    @extractor(deps=[UserStats])
    @extractor_inputs("user")
    @extractor_outputs("looked_up")
    def look_up(cls, ts, user):
        return UserStats.lookup(ts, user=user)["spent"]


@featureset
class Plain:
    user: str
    shop: str
    spent: float = feature(ref=UserStats.spent)
    sales: int = feature(ref=ShopStats.sales)
"""
OTHER = """

@featureset
class Other:
    shop: str
    sales: int = feature(ref=ShopStats.sales)
"""
USERS = [f"user{number}" for number in range(40)]
ROWS = [(user, f"2026-01-15T{hour}:30:00Z") for user in [*USERS[:5], "nobody"] for hour in ("00", "11", "12", "13")]
SPINE = pa.table({"user": [user for user, _ in ROWS], "shop": ["s"] * len(ROWS), "timestamp": [ts for _, ts in ROWS]})


def sales(at, amount, users=USERS):
    """One of each user, so of each partition."""
    return [{"user": user, "ts": f"2026-01-15T{at}Z", "shop": "s", "amount": amount} for user in users]


def rows(answer):
    return answer.to_arrow().replace_schema_metadata(None)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("pins")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        client.log("Sale", sales("11:00:00", 0.1))
        send(client, sales("13:00:00", 0.2))
    yield running
    running.stop()


def send(client, sent):
    """When it returns, questions see the rows."""
    position = client.log("Sale", sent).position
    client.query("Features", {"user": "user0", "shop": "s"}, at_least=position)


def export(client, featureset="Features", **asked):
    return client.query_offline(featureset, SPINE, statuses=True, **asked)


def test_the_same_again_whatever_comes(server):
    with server.client() as client:
        first = export(client)
        assert "ERROR" in first["spent__status"], "some rows are before the horizon"
        send(client, sales("12:15:00", 0.4))
        assert rows(export(client)) != rows(first)
        assert rows(export(client, pin=first.pin)) == rows(first)
    again = exchange(server, SPINE, featureset="Features", statuses=True, pin=first.pin)
    assert again.replace_schema_metadata(None) == rows(first)
    server.stop()
    server.lose_state()
    server.start()
    with server.client(retry_for=60) as client:
        told = export(client, pin=first.pin)
        assert rows(told) == rows(first)
        assert told.to_arrow().schema.metadata == again.schema.metadata


def test_a_commit_of_something_else(server):
    """Any line of the module may matter to an extractor, and none to what has none."""
    with server.client() as client:
        first, plain = export(client), export(client, "Plain")
        done = server.commit(SOURCE + OTHER)
        assert done.returncode == 0, done.stderr
        assert rows(export(client, "Plain", pin=plain.pin)) == rows(plain)
        with pytest.raises(FailedPreconditionError, match="another definition of featureset 'Features'"):
            export(client, pin=first.pin)
        with pytest.raises(FailedPreconditionError, match="another definition of featureset 'Plain'"):
            export(client, "Plain", pin=first.pin)
        done = server.commit(SOURCE)
        assert done.returncode == 0, done.stderr
        assert rows(export(client, pin=first.pin)) == rows(first)


def test_a_horizon_that_has_moved_on(server):
    with server.client() as client:
        before = export(client)
        send(client, sales("22:45:00", 0.1))  # the watermark is at 21:45, the horizon at 11:45
        for features in (["spent"], ["sales"], ["looked_up"]):
            with pytest.raises(OutOfRangeError, match="'Sale' has history=10h .* moved on since the pin was made"):
                export(client, features=features, pin=before.pin)
        assert rows(export(client, pin=export(client).pin)) == rows(export(client))


def test_erased_keys(server):
    with server.client() as client:
        before = export(client)
        assert client.erase("Sale", [USERS[7]]).pending
        wait_until(lambda: not client.erase("Sale", []).pending)
        with pytest.raises(FailedPreconditionError, match="keys of 'Sale' were erased since the pin was made"):
            export(client, features=["spent"], pin=before.pin)
        with pytest.raises(
            FailedPreconditionError, match="does not have the table of 'ShopStats.compute' as it is now"
        ):
            export(client, features=["sales"], pin=before.pin)
        after = export(client)
        assert rows(after) != rows(before)
        assert rows(export(client, pin=after.pin)) == rows(after)


def test_another_server_is_another_log(server, tmp_path):
    with server.client() as client:
        pin = export(client).pin
    other = Server(tmp_path).start()
    try:
        done = other.commit(SOURCE)
        assert done.returncode == 0, done.stderr
        with other.client() as client, pytest.raises(FailedPreconditionError, match="the pin is of another log"):
            export(client, pin=pin)
    finally:
        other.stop()
