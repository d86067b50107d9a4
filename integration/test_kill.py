"""SIGKILL at random instants under load, with clients that retry: nothing is lost, nothing counts twice."""

from __future__ import annotations

import math
import random
import threading
from collections import defaultdict

from harness import SOAK
from shop import SOURCE, USERS, rows

KILLS = 60 if SOAK else 5


def test_nothing_is_lost_or_doubled(make_server):
    server = make_server(clock="event").start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    chance = random.Random(7)
    sent: list[dict[str, object]] = []
    positions: list[str] = []
    stopping = threading.Event()
    failures: list[BaseException] = []

    def send() -> None:
        try:
            with server.client(retry_for=120) as client:
                first = 0
                while not stopping.is_set():
                    batch = rows(chance.randrange(1, 300), first, first)
                    result = client.log("Order", batch)
                    assert result.accepted == len(batch) and not result.rejected
                    sent.extend(batch)
                    positions.append(result.position)
                    first += len(batch)
        except BaseException as error:
            failures.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(KILLS):
        stopping.wait(chance.uniform(0.2, 1.5))
        server.kill()
        server.start()
    stopping.set()
    sender.join(timeout=180)
    assert not sender.is_alive()
    assert not failures, failures

    amounts = defaultdict(list)
    for row in sent:
        amounts[row["user"]].append(row["amount"])
    with server.client() as client:
        answers = client.query_batch("UserFeatures", USERS, at_least=positions[-1]).to_dicts()
        status = client.status()
    for user, answer in zip(USERS, answers, strict=True):
        assert answer["n_all"] == len(amounts[user]), (user, status)
        assert answer["total_all"] == math.fsum(amounts[user])
