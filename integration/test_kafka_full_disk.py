"""A full disk where the log is on Kafka: of a server, of its checkpoints, of the broker. What can go on does, the rest
says what is wrong; with space again everything counts, once."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from harness import wait_until
from load import Load
from shop import SOURCE, USERS, rows
from surfaces import http
from thyme import errors


@pytest.fixture
def shop_inside(broker, server_inside, request):
    """A server whose log is on a real broker, not started yet."""
    server_inside.env |= broker.log(request.function.__name__)
    return server_inside


def counts(server, position: str = "") -> dict[str, int]:
    with server.client() as client:
        answers = client.query_batch("UserFeatures", USERS, at_least=position or None).to_dicts()
    return {user: answer["n_all"] for user, answer in zip(USERS, answers, strict=True) if answer["n_all"]}


def fill_until_it_stops(server, disk, load) -> None:
    """The engine says why it does not go on; rows are taken and questions answered all the same."""
    disk.fill()
    reason = "the engine does not go on: the disk of the state directory is full"
    wait_until(lambda: reason in (server.not_ready() or ""))
    assert "free at least 64 MB" in server.not_ready()
    status = server.run("status").stdout
    assert "state:    degraded" in status and "engine:   does not go on: the disk of the state" in status, status
    sent, before = len(load.sent), counts(server)
    wait_until(lambda: len(load.sent) > sent + 1000)
    assert counts(server) == before and sum(before.values()) < len(load.sent)
    code, answer = http(f"http://{server.queries}/features?featureset=UserFeatures&user={USERS[0]}")
    assert code == 200, answer


def test_a_server_without_space_takes_rows_and_answers(shop_inside, mounts):
    """It goes on by itself when there is space again, and so does one that was killed meanwhile."""
    server = shop_inside
    # RocksDB takes a write up again by itself only where as much is free as its largest write buffer, 32 MB.
    disk = mounts.disk(server.directory / "data", 192)
    # What it reports goes to the same disk.
    server.log_name = disk.seen / "server.log"
    server.start()
    assert server.commit(SOURCE).returncode == 0
    load = Load(server, random.Random(3), retry_for=60, most=2_000)
    load.pause(0.5, 1)
    fill_until_it_stops(server, disk, load)
    disk.free()
    wait_until(lambda: server.not_ready() is None)
    load.pause(0.5, 1)
    fill_until_it_stops(server, disk, load)
    server.kill()
    disk.fill(left=0)
    refused = server.serve_to_end()
    assert refused.returncode != 0 and "the disk of the state directory is full" in refused.stderr, refused.stderr
    assert "free at least 64 MB" in refused.stderr, refused.stderr
    assert "panicked" not in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
    disk.free()
    server.start()
    load.finish(timeout=120)
    load.check()
    assert server.data("rebuild")["equal"]
    reported = server.log_file.read_text(encoding="utf-8", errors="replace")
    assert "panicked" not in reported, reported


def test_checkpoints_without_space_hold_nothing_up(shop_inside, mounts):
    server = shop_inside
    disk = mounts.disk(server.directory / "store", 64)
    server.env |= {
        "THYME_CHECKPOINTS__URL": f"file://{server.directory}/store",
        "THYME_CHECKPOINTS__INTERVAL_S": "1",
    }
    server.start()
    assert server.commit(SOURCE).returncode == 0
    load = Load(server, random.Random(4), retry_for=60, most=100, rest_seconds=0.1)
    wait_until(lambda: server.status()["checkpoints"]["number"] is not None)
    disk.fill()
    wait_until(lambda: server.status()["checkpoints"]["trouble"] is not None)
    status = server.run("status").stdout
    assert "state:    ready" in status and server.not_ready() is None
    assert "No space left on device" in status and "make room where checkpoints.url points" in status, status
    before = server.status()["checkpoints"]["number"]
    sent = len(load.sent)
    # Rows go on being taken and counted. (How many exactly is checked when no more come.)
    wait_until(lambda: sum(counts(server).values()) > sent + 1000)
    disk.free()
    wait_until(lambda: server.status()["checkpoints"]["number"] > before)
    assert server.status()["checkpoints"]["trouble"] is None
    load.finish(timeout=60)
    load.check()
    # Nothing is left of files that did not fit.
    assert not [path for path in disk.seen.rglob("*") if "#" in path.name]


def test_a_broker_without_space_refuses_rows_and_loses_none(start_broker, make_server, mounts, tmp_path):
    """The broker ends over it, and has to be started again once there is space."""
    disk = mounts.disk(tmp_path / "broker", 400)
    broker = start_broker(f"log.dirs={tmp_path}/broker", inside=mounts.inside())
    server = make_server(env=broker.log("shop")).start()
    try:
        assert server.commit(SOURCE).returncode == 0
        calls = [rows(500, number, number * 500) for number in range(200)]
        ids = [[str(order["order_id"]) for order in call] for call in calls]
        with server.client(retry_for=0) as client:
            first = client.log("Order", calls[0], event_ids=ids[0])
            before = counts(server, first.position)
            disk.fill()
            sent, refusal = 1, None
            while refusal is None:
                try:
                    client.log("Order", calls[sent], event_ids=ids[sent])
                    sent += 1
                except errors.ThymeError as error:
                    refusal = error
        assert refusal.code == "unavailable" and "Kafka broker" in refusal.hint, refusal
        assert sum(counts(server).values()) >= sum(before.values()), "reads go on"
        wait_until(lambda: server.not_ready() is not None)
        disk.free()
        broker.tell("start")
        with server.client(retry_for=60) as client:
            # What was refused may be in the log all the same: its ids say so.
            again = range(sent, sent + 2)
            last = [client.log("Order", calls[number], event_ids=ids[number]) for number in again][-1]
        expected = Counter(order["user"] for call in calls[: sent + 2] for order in call)
        assert counts(server, last.position) == expected
        wait_until(lambda: server.not_ready() is None)
    finally:
        server.kill()
        broker.close()
