"""The server on a real Kafka broker: both killed under load, the broker away, what is refused at the start."""

from __future__ import annotations

import random
import socket
import time
import urllib.request

import pytest

from harness import SOAK
from load import Load, check_rows
from shop import SOURCE, USERS, rows
from test_kafka_nodes import both
from thyme import errors

ROUNDS = 20 if SOAK else 2


@both
def test_nothing_is_lost_or_doubled_when_server_and_broker_are_killed(broker, make_server, slices):
    server = make_server(env=broker.log(f"killed{slices}", slices)).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    chance = random.Random(11)
    load = Load(server, chance, retry_for=180)
    for _ in range(ROUNDS):
        load.pause(0.5, 1.5)
        server.kill()
        server.start()
        load.pause(0.5, 1.5)
        broker.tell("kill")
        load.pause(0.1, 1.0)
        broker.tell("start")
    load.pause(1.0, 1.0)
    load.finish(timeout=300)
    load.check()
    # The state is lost; the log is not.
    server.stop()
    server.lose_state()
    server.start()
    load.check()
    server.stop()


def test_while_the_broker_is_away_rows_are_refused_and_questions_answered(broker, make_server):
    server = make_server(env={**broker.log("away"), "THYME_LOG__KAFKA__MESSAGE_TIMEOUT_MS": "1000"}).start()
    assert server.commit(SOURCE).returncode == 0
    sent = rows(100, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    broker.tell("kill")
    with server.client(retry_for=0) as client:
        with pytest.raises(errors.UnavailableError) as refused:
            client.log("Order", rows(10, 200, 200))
        assert broker.address in str(refused.value)
    check_rows(server, sent, position)
    assert server.run("status").returncode == 0
    broker.tell("start")
    more = rows(50, 300, 300)
    with server.client(retry_for=120) as client:
        position = client.log("Order", more).position
        client.query("UserFeatures", USERS[0], at_least=position)
    with urllib.request.urlopen(f"http://{server.queries}/readyz", timeout=30) as answer:
        assert answer.status == 200
    server.stop()


def test_what_cannot_work_is_refused_at_the_start(broker, make_server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nobody = make_server("nobody", env={"THYME_LOG__URL": f"kafka://{address}/x"}).serve_to_end()
    assert nobody.returncode != 0 and address in nobody.stderr and "log.url" in nobody.stderr, nobody.stderr

    password = {"THYME_LOG__KAFKA__SASL_PASSWORD": "hunter2", "THYME_LOG__KAFKA__ACKS": "1"}
    refused = make_server("acks", env=broker.log("x") | password).serve_to_end()
    assert refused.returncode != 0 and '"acks" cannot be set' in refused.stderr, refused.stderr
    assert "hunter2" not in refused.stderr + refused.stdout

    first = make_server("first", env=broker.log("first")).start()
    assert first.commit(SOURCE).returncode == 0
    with first.client() as client:
        position = client.log("Order", rows(20, 1)).position
        client.query("UserFeatures", USERS[0], at_least=position)
    first.stop()
    first.env |= broker.log("second")
    other = first.serve_to_end()
    assert other.returncode != 0 and "made from another log" in other.stderr, other.stderr
    assert "/first" in other.stderr and "/second" in other.stderr


def test_a_topic_with_other_partitions_refuses_the_commit(broker, make_server):
    first = make_server("one", env=broker.log("partitions")).start()
    assert first.commit(SOURCE).returncode == 0
    first.stop()
    # Another catalog and another definition, the same topics.
    second = make_server("two", env=broker.log("partitions")).start()
    # The first one, which may come back, counts as the owner of the work for a while.
    deadline = time.monotonic() + 60
    with second.client() as client:
        while "engine" not in client.status()["roles"]:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    done = second.commit(SOURCE.replace('max_lateness="6h"', 'max_lateness="6h", partitions=3'))
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "not 3" in text and "partitions.Order.v1" in text, text
