"""One question, one answer: recorded online answers asked again, and every way in gives the same bits."""

from __future__ import annotations

import importlib.util
import random
import urllib.parse
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from harness import SOAK
from shop import SOURCE, USERS, rows
from surfaces import http
from thyme.result import ThymeResult
from thyme.times import as_micros

ROUNDS = 2600 if SOAK else 300
# Whose total is nothing has no share: an ERROR, with its reason.
RAISING = SOURCE.replace("return total_1d / total_all if total_all else 0.0", "return total_1d / total_all")


@pytest.fixture
def shop(server):
    assert RAISING != SOURCE
    done = server.commit(RAISING)
    assert done.returncode == 0, done.stderr
    return server


def exact(result: ThymeResult) -> str:
    """Values, statuses and reasons; `repr` of a float is unique to its bits, and tells it from an int."""
    values = [(column.name, column.values) for column in result.columns]
    return repr((values, sorted(result.statuses.items()), sorted(result.errors.items())))


def test_what_was_served_is_answered_again_bit_for_bit(shop):
    chance = random.Random(3)
    recorded = []
    with shop.client() as client:
        for number in range(ROUNDS):
            client.log("Order", rows(20, number, number * 20))
            many = client.query_batch("UserFeatures", USERS)
            user = chance.choice([*USERS, "nobody"])
            recorded.append((many, user, client.query("UserFeatures", user)))
        later = 0
        for many, user, one in recorded:
            at = {"ts": many.ts, "known_at": many.position}
            assert exact(client.query_batch("UserFeatures", USERS, **at)) == exact(many)
            at = {"ts": one.ts, "known_at": one.position}
            assert exact(client.query("UserFeatures", user, **at)) == exact(one)
            if chance.random() < 0.2:
                later += exact(client.query_batch("UserFeatures", USERS, ts=many.ts)) != exact(many)
        assert later > 0, "late events must have changed some answers by ts alone"
        assert any(one.errors for _, _, one in recorded), "some had no share"


class Told:
    """What one way in says of one user at one time, in one form."""

    def __init__(self, values: dict[str, Any], statuses: dict[str, str], names: Iterable[str]) -> None:
        self.bits = [(name, repr(values[name]), statuses.get(name, "OK")) for name in names]
        self.errors: dict[str, str] | None = None
        self.standing: tuple[int | None, int | None, bool] | None = None
        self.position: str | None = None

    def stands_on(self, answer: dict[str, Any]) -> Told:
        watermark = answer["watermark"]
        watermark = None if watermark is None else as_micros(watermark)
        self.standing = (as_micros(answer["ts"]), watermark, answer["final"])
        self.position = answer["position"]
        return self


def of_result(result: ThymeResult, names: list[str]) -> Told:
    told = Told(result.to_dicts()[0], {name: found[0] for name, found in result.statuses.items()}, names)
    told.errors = {name: reasons[0] for name, reasons in result.errors.items()}
    return told.stands_on(vars(result))


def of_object(answer: dict[str, Any], names: list[str]) -> Told:
    """Of HTTP, for one user."""
    told = Told(answer["features"], answer["statuses"], names)
    told.errors = answer.get("errors", {})
    return told.stands_on(answer)


def by_http(shop, user, ts, names):
    asked = {"featureset": "UserFeatures", "user": user, "ts": ts}
    code, answer = http(f"http://{shop.queries}/features?{urllib.parse.urlencode(asked)}")
    assert code == 200, answer
    yield "GET", of_object(answer, names)
    yield "POST", of_object(http(f"http://{shop.queries}/features", asked)[1], names)

    body = {"featureset": "UserFeatures", "entity_ids": [user], "ts": ts, "statuses": True}
    _, answer = http(f"http://{shop.queries}/features/batch", body)
    values = dict(zip(answer["features"], answer["values"][0], strict=True))
    assert values.pop("entity_id") == user
    statuses = dict(zip(values, answer["statuses"][0], strict=True))
    yield "batch", Told(values, statuses, names).stands_on(answer)

    queries = [{"entity_id": user, "timestamp": ts}]
    body = {"featureset": "UserFeatures", "queries": queries, "statuses": True}
    _, answer = http(f"http://{shop.queries}/features/offline", body)
    (row,) = answer["results"]
    told = Told(row["features"], row["statuses"], names)
    told.errors, told.position = row.get("errors", {}), answer["position"]
    yield "offline", told


def exported(table: pa.Table, names: list[str]) -> list[Told]:
    """Of rows with a status column beside each feature."""
    return [Told(row, {name: row[f"{name}__status"] for name in names}, names) for row in table.to_pylist()]


def test_every_way_in_gives_the_same_bits(shop):
    from thyme.testing import MockContext

    events = rows(3000, 11)
    chance = random.Random(5)
    asked = [(chance.choice([*USERS, "nobody"]), chance.choice(events)["ts"]) for _ in range(60)]
    asked += [("nobody", events[0]["ts"]), (USERS[0], events[-1]["ts"]), (USERS[0], "2000-01-01T00:00:00Z")]
    with shop.client() as client:
        position = client.log("Order", events).position
        first = client.query("UserFeatures", USERS[0], at_least=position)
        names = [name for name in first.column_names if name != "user"]
        spine = pa.table({"user": [user for user, _ in asked], "timestamp": [ts for _, ts in asked]})
        flight = exported(client.query_offline("UserFeatures", spine, statuses=True).to_arrow(), names)
        single = [of_result(client.query("UserFeatures", user, ts=ts), names) for user, ts in asked]
        batch = [of_result(client.query_batch("UserFeatures", [user], ts=ts), names) for user, ts in asked]
        streamed = [of_result(next(client.query_many("UserFeatures", [user], ts=ts)), names) for user, ts in asked]
    assert any(one.errors for one in single)
    assert {one.standing[2] for one in single} == {True, False}, "some are final, and some are not"

    spec = importlib.util.spec_from_file_location("features_of_test", shop.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with MockContext() as context:
        context.add_events(module.Order, events)
        mock_flight = exported(context.query_offline(module.UserFeatures, spine, statuses=True).to_arrow(), names)
        for number, (user, ts) in enumerate(asked):
            answer = context.query(module.UserFeatures, user, ts=ts)
            mock = Told(answer, answer.statuses, names).stands_on(vars(answer))
            # Of a log of its own.
            mock.errors, mock.position = answer.errors, None
            ways = {
                "batch, gRPC": batch[number],
                "stream": streamed[number],
                "export": flight[number],
                "mock": mock,
                "export, mock": mock_flight[number],
                **dict(by_http(shop, user, ts, names)),
            }
            wanted = single[number]
            for way, told in ways.items():
                assert told.bits == wanted.bits, (way, user, ts)
                for part in ("errors", "standing", "position"):
                    found = getattr(told, part)
                    assert found is None or found == getattr(wanted, part), (way, part, user, ts)
