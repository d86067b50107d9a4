"""SIGKILL at random instants under load, with clients that retry: nothing is lost, nothing counts twice."""

from __future__ import annotations

import random

from harness import SOAK
from load import Load
from shop import SOURCE

KILLS = 60 if SOAK else 5


def test_nothing_is_lost_or_doubled(make_server):
    server = make_server(clock="event").start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    chance = random.Random(7)
    load = Load(server, chance, retry_for=120)
    for _ in range(KILLS):
        load.pause(0.2, 1.5)
        server.kill()
        server.start()
    load.finish(timeout=180)
    load.check()
