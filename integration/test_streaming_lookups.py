"""Questions over one stream: what single calls say, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import queue
import random
import threading

import pytest

from harness import wait_until
from shop import SOURCE, START, USERS, micros_text, rows
from thyme import AsyncClient, errors
from thyme.many import AHEAD
from thyme.result import ThymeResult

MORE = SOURCE.replace("    share: float\n", "    share: float\n    again: int = feature(ref=UserStats.n_all)\n")
HALVED = MORE.replace("    @extractor\n", "    @extractor(version=2)\n").replace("/ total_all if", "/ total_all / 2 if")
TS = micros_text(START + 200 * 120_000_000)


@pytest.fixture
def own_shop(server):
    """A shop that a test may commit to, stop and kill; `position` is that of an answer with its rows."""
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        rows_at = client.log("Order", rows(200, 1)).position
        # That of an answer about all of them, since one key's says nothing of the partitions of others.
        server.position = client.query_batch("UserFeatures", [*USERS, "nobody"], at_least=rows_at).position
    return server


def exact(result: ThymeResult) -> str:
    """Everything but the run's id; `repr` of a float is unique to its bits, and tells it from an int."""
    values = [(column.name, column.type, column.values) for column in result.columns]
    standing = (result.ts, result.watermark, result.position, result.final, result.mode, result.commit_id)
    return repr((values, sorted(result.statuses.items()), sorted(result.errors.items()), standing))


def asked_keys(count: int) -> list[str]:
    chance = random.Random(count)
    return [chance.choice([*USERS, "nobody"]) for _ in range(count)]


async def by_asyncio(server, keys, **asked) -> list[ThymeResult]:
    async with AsyncClient(f"http://{server.queries}", f"http://{server.control}") as client:
        return [answer async for answer in client.query_many("UserFeatures", keys, **asked)]


@pytest.mark.parametrize("asked", [{}, {"ts": TS}, {"ts": TS, "exclusive": True, "features": ["n_1h", "share"]}])
def test_answers_are_those_of_single_calls(shop, asked):
    keys = asked_keys(1_000)
    with shop.client() as client:
        single = {key: exact(client.query("UserFeatures", key, **asked)) for key in {*keys}}
        streamed = list(client.query_many("UserFeatures", iter(keys), **asked))
        assert [exact(answer) for answer in streamed] == [single[key] for key in keys]
        # Each is a question of its own.
        ids = [answer.query_run_id for answer in streamed]
        assert len({*ids}) == len(keys)
        run = client.run(ids[-1])
        assert (run["entity_ids"], run["kind"], run["row_count"]) == ([keys[-1]], "online", 1)
    awaited = asyncio.run(by_asyncio(shop, keys, **asked))
    assert [exact(answer) for answer in awaited] == [single[key] for key in keys]
    assert len({exact(answer) for answer in streamed}) > 20


def test_an_error_stands_in_its_place(shop):
    keys = ["user_1", 7, "user_2", {"usr": "user_3"}, "user_4"]
    with shop.client() as client:
        answers, told = client.query_many("UserFeatures", keys), []
        for key in keys:
            try:
                told.append(next(answers)["user"])
            except errors.InvalidArgumentError as error:
                with pytest.raises(errors.InvalidArgumentError) as alone:
                    client.query("UserFeatures", key)
                assert (str(error), error.field) == (str(alone.value), alone.value.field)
                told.append("error")
        assert list(answers) == []
    assert told == [["user_1"], "error", ["user_2"], "error", ["user_4"]]


def test_a_commit_in_mid_stream_answers_what_is_asked_after_it(own_shop):
    keys: queue.Queue = queue.Queue()
    with own_shop.client() as client, client.query_many("UserFeatures", iter(keys.get, None)) as answers:
        shares = set()
        for source in (SOURCE, MORE, HALVED):
            done = own_shop.commit(source)
            assert done.returncode == 0, done.stderr
            for user in USERS[:10]:
                keys.put(user)
                answer = next(answers)
                assert exact(answer) == exact(client.query("UserFeatures", user))
                assert ("again" in answer.column_names) == (source != SOURCE)
            shares.add(answer["share"][0])
        assert len(shares) == 2
        keys.put(None)
        assert list(answers) == []


def test_all_is_answered_though_the_server_is_killed(own_shop):
    keys = asked_keys(3_000)
    asked = {"ts": TS, "known_at": own_shop.position}
    killer = threading.Thread(target=lambda: (own_shop.kill(), own_shop.start()))
    with own_shop.client(retry_for=120) as client:
        single = {key: exact(client.query("UserFeatures", key, **asked)) for key in {*keys}}
        answers = []
        for answer in client.query_many("UserFeatures", keys, **asked):
            answers.append(exact(answer))
            if len(answers) == 500:
                killer.start()
        killer.join()
    assert answers == [single[key] for key in keys]


def test_a_stream_does_not_hold_up_a_server_that_stops(own_shop):
    keys: queue.Queue = queue.Queue()
    asked = {"ts": TS, "known_at": own_shop.position}
    client = own_shop.client(retry_for=120)
    with client, client.query_many("UserFeatures", iter(keys.get, None), **asked) as answers:
        keys.put("user_1")
        before = exact(next(answers))
        assert own_shop.stop() == 0
        assert "connections were still open" not in own_shop.log_file.read_text(encoding="utf-8")
        own_shop.start()
        keys.put("user_1")
        assert exact(next(answers)) == before


def test_a_slow_reader_has_few_questions_under_way(shop):
    """What is counted are runs: questions that the server has begun."""
    with shop.client() as client:
        first = client.query("UserFeatures", "user_1").query_run_id
        answers = client.query_many("UserFeatures", asked_keys(2_000))
        for _ in range(10):
            next(answers)

        def begun() -> int:
            return [run["id"] for run in client.runs(limit=200)["runs"]].index(first)

        wait_until(lambda: begun() >= 10 + AHEAD)
        assert {begun() for _ in range(20)} == {10 + AHEAD}
        answers.close()
