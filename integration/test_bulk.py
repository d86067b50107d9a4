"""Bulk ingest by the client: streams that outlive servers, and rows that mean the same in every form."""

from __future__ import annotations

import math
import random
import threading
from collections import defaultdict

import pyarrow as pa
import pytest

from harness import SOAK
from shop import SOURCE, START, USERS, rows
from thyme.sending import FEW_ROWS

PIECES = 300 if SOAK else 24
PIECE_ROWS = 20_000
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture
def shop(make_server):
    server = make_server(clock="event").start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    return server


def test_a_stream_of_columns_survives_kills(shop):
    chance = random.Random(11)
    amounts = defaultdict(list)
    killer = threading.Thread()

    def kill(after):
        threading.Event().wait(after)
        shop.kill()
        shop.start()

    def pieces():
        nonlocal killer
        for piece in range(PIECES):
            first = piece * PIECE_ROWS
            users = chance.choices(USERS, k=PIECE_ROWS)
            spent = [chance.choice([0.1, 1e9, 33.3, 1e-9]) for _ in users]
            for user, amount in zip(users, spent, strict=True):
                amounts[user].append(amount)
            numbers = range(first, first + PIECE_ROWS)
            times = pa.array([START + number * 100_000 for number in numbers], TIME)
            yield pa.table(
                {"order_id": numbers, "ts": times, "user": users, "amount": spent, "city": ["Oslo"] * len(users)}
            )
            if piece % 8 == 7 and not killer.is_alive():
                killer = threading.Thread(target=kill, args=(chance.uniform(0.0, 0.2),))
                killer.start()

    with shop.client(retry_for=120) as client:
        result = client.log("Order", pieces())
        killer.join()
        assert (result.accepted, result.rejected) == (PIECES * PIECE_ROWS, [])
        answers = client.query_batch("UserFeatures", USERS, at_least=result.position).to_dicts()
    for user, answer in zip(USERS, answers, strict=True):
        assert answer["n_all"] == len(amounts[user])
        assert answer["total_all"] == math.fsum(amounts[user])


def test_dicts_as_columns_are_judged_like_dicts(shop):
    """Few dicts are sent as they are, many as columns: the same are taken, the others refused for the same reasons."""
    chance = random.Random(3)
    wrong = [{"order_id": None}, {"ts": None}, {"user": None}, {"amount": float("nan")}, {"ts": "yesterday"}]
    made = [{**row, **(chance.choice(wrong) if chance.random() < 0.2 else {})} for row in rows(1_000, 5)]
    with shop.client() as client:
        as_columns = client.log("Order", made)
        as_dicts = [client.log("Order", made[first : first + FEW_ROWS]) for first in range(0, len(made), FEW_ROWS)]
    assert as_columns.accepted == sum(result.accepted for result in as_dicts)

    def told(result, first=0):
        return [(first + row.index, row.reason.partition(" (hint")[0], row.field) for row in result.rejected]

    assert told(as_columns) == [row for n, result in enumerate(as_dicts) for row in told(result, n * FEW_ROWS)]
    assert len(as_columns.rejected) > 100


def test_every_refused_row_of_a_stream_has_its_reason(shop):
    count = 50_000
    numbers = list(range(count))
    table = pa.table(
        {
            "order_id": pa.array([None if number % 3 else number for number in numbers], pa.int64()),
            "ts": pa.array([START] * count, TIME),
            "user": ["zoe"] * count,
            "amount": [1.0] * count,
            "city": ["Oslo"] * count,
        }
    )
    with shop.client() as client:
        result = client.log("Order", table)
        assert [row.index for row in result.rejected] == [number for number in numbers if number % 3]
        assert {row.field for row in result.rejected} == {"order_id"}
        assert result.accepted == count - len(result.rejected)
        answer = client.query("UserFeatures", "zoe", ts="2025-06-20T00:00:00Z", at_least=result.position).to_dicts()[0]
        assert answer["n_all"] == result.accepted  # what was asked again for its reasons counts once
