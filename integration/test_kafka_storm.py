"""The short form of `storm.py`, which `make crash` runs at length."""

from __future__ import annotations

from storm import Goal, run


def test_two_servers_and_a_broker_killed_under_load(broker):
    found = run(Goal(events=10_000, kills=3, broker_kills=1, pauses=1), broker)
    assert found["faults"] == []
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert (found["events"], found["sigkills"], found["broker_kills"], found["pauses"]) == (10_000, 3, 1, 1)
