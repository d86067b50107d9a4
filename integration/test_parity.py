"""One question, one answer: recorded online answers asked again, and every way in gives the same bits."""

from __future__ import annotations

import json
import random
import urllib.parse
import urllib.request

import pyarrow as pa
import pytest

from harness import SOAK
from shop import SOURCE, USERS, rows

ROUNDS = 2600 if SOAK else 300


@pytest.fixture
def shop(server):
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    return server


def test_what_was_served_is_answered_again_bit_for_bit(shop):
    chance = random.Random(3)
    recorded = []
    with shop.client() as client:
        for number in range(ROUNDS):
            client.log("Order", rows(20, number, number * 20))
            answer = client.query_batch("UserFeatures", USERS)
            recorded.append((answer.ts, answer.position, answer.to_dicts()))
        later = 0
        for ts, position, served in recorded:
            again = client.query_batch("UserFeatures", USERS, ts=ts, known_at=position)
            assert again.to_dicts() == served
            if chance.random() < 0.2:
                later += client.query_batch("UserFeatures", USERS, ts=ts).to_dicts() != served
        assert later > 0, "late events must have changed some answers by ts alone"


def test_every_way_in_gives_the_same_bits(shop, tmp_path):
    from thyme.testing import MockContext

    events = rows(3000, 11)
    chance = random.Random(5)
    asked = [(chance.choice([*USERS, "nobody"]), chance.choice(events)["ts"]) for _ in range(60)]
    with shop.client() as client:
        position = client.log("Order", events).position
        client.query("UserFeatures", USERS[0], at_least=position)
        spine = pa.table({"user": [user for user, _ in asked], "timestamp": [ts for _, ts in asked]})
        exported = client.query_offline("UserFeatures", spine).to_dicts()
        single = [client.query("UserFeatures", user, ts=ts).to_dicts()[0] for user, ts in asked]
        batch = [client.query_batch("UserFeatures", [user], ts=ts).to_dicts()[0] for user, ts in asked]
    names = [name for name in single[0] if name != "user"]
    for (user, ts), one, many, row in zip(asked, single, batch, exported, strict=True):
        query = urllib.parse.urlencode({"featureset": "UserFeatures", "user": user, "ts": ts})
        with urllib.request.urlopen(f"http://{shop.queries}/features?{query}") as response:
            http = json.load(response)["features"]
        wanted = {name: one[name] for name in names}
        assert {name: many[name] for name in names} == wanted
        assert {name: row[name] for name in names} == wanted
        assert {name: http[name] for name in names} == wanted

    import importlib.util

    spec = importlib.util.spec_from_file_location("features_of_test", shop.directory / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with MockContext() as context:
        context.add_events(module.Order, events)
        for (user, ts), one in zip(asked, single, strict=True):
            mock = context.query(module.UserFeatures, user, ts=ts)
            assert {name: mock[name] for name in names} == {name: one[name] for name in names}
