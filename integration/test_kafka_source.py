"""A topic of a real Kafka broker as a source: followed over kills of server and broker, tested, paused, reset."""

from __future__ import annotations

import json
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from test_sources import accepted, wait_accepted

TOPIC = """
from datetime import datetime
from typing import Optional

from thyme import KafkaSource, dataset, field, source


@source(KafkaSource({arguments}))
@dataset(index=True, version=1)
class Ride:
    id: int = field(key=True)
    ts: datetime = field(timestamp=True)
    fare: Optional[float]
"""


def make_topic(broker, name, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)


def ride(number):
    return json.dumps({"id": number, "ts": "2026-01-15T12:00:00Z", "fare": number / 4})


def send(broker, topic, values):
    """Each value as a text, bytes or None, in turn to the partitions."""
    producer = Producer({"bootstrap.servers": broker.address, "enable.idempotence": True})
    count = len(producer.list_topics(topic, 10).topics[topic].partitions)
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % count)
        if number % 10_000 == 0:
            producer.flush(30)
    assert producer.flush(30) == 0


def source_of(client):
    return client.list("sources")[0]


def wait_for(found, what):
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def test_a_topic_is_tested_paused_and_reset_and_what_is_none_goes_to_the_dead_letters(broker, make_server):
    make_topic(broker, "rides", 2)
    send(broker, "rides", [ride(1), ride(2)])
    running = make_server(clock="wall")
    running.start()
    wrong = running.commit(TOPIC.format(arguments=f'"nowhere", bootstrap_servers="{broker.address}"'))
    assert wrong.returncode == 0, wrong.stderr
    with running.client() as client:
        wait_for(lambda: source_of(client)["state"] == "failed", lambda: source_of(client))
        assert "topic 'nowhere'" in source_of(client)["error"]
    done = running.commit(TOPIC.format(arguments=f'"rides", bootstrap_servers="{broker.address}"'))
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        wait_accepted(client, "Ride", 2)
        assert running.run("sources", "pause", "Ride").returncode == 0
        send(broker, "rides", [None, "no JSON", '{"id": "x"}', ride(3)])
        tested = running.run("sources", "test", "Ride", "-n", "10")
        assert tested.returncode == 1, tested.stdout
        assert "partition 0 offset 1 does not fit: the record has no value (a tombstone)" in tested.stderr
        assert accepted(client, "Ride") == 2
        assert "paused" in running.run("sources", "list").stdout
        assert running.run("sources", "resume", "Ride").returncode == 0
        wait_accepted(client, "Ride", 3)
        wait_for(lambda: source_of(client)["rejected"] == 3, lambda: source_of(client))
        # A partition that comes later.
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_partitions([NewPartitions("rides", 3)])["rides"].result(30)
        wait_for(lambda: '"2"' in source_of(client)["cursor"], lambda: source_of(client))
        send(broker, "rides", [ride(4), ride(5), ride(6)])
        wait_accepted(client, "Ride", 6)
        assert running.run("sources", "reset", "Ride").returncode == 0
        counts = lambda: next(d["counts"] for d in client.list("datasets") if d["name"] == "Ride")  # noqa: E731
        wait_for(lambda: counts()["duplicates"] >= 6, counts)
        assert counts()["accepted"] == 6
        assert client.lookup("Ride", 6).to_dicts()[0]["fare"] == 1.5
    refused = running.commit(TOPIC.format(arguments='"rides", properties={"group.id": "x"}'))
    assert refused.returncode != 0 and "property 'group.id' cannot be set" in refused.stderr, refused.stderr


def test_nothing_is_lost_or_doubled_when_server_and_broker_are_killed(broker, make_server):
    make_topic(broker, "many", 4)
    send(broker, "many", [ride(number) for number in range(20_000)])
    running = make_server(clock="wall")
    running.start()
    done = running.commit(TOPIC.format(arguments=f'"many", bootstrap_servers="{broker.address}"'))
    assert done.returncode == 0, done.stderr
    for round in range(3):
        send(broker, "many", [ride(20_000 + 20_000 * round + number) for number in range(20_000)])
        with running.client() as client:
            # In the midst of it, and once at its end.
            least = min(accepted(client, "Ride") + 1, 40_000 + 20_000 * round)
            wait_for(lambda least=least: accepted(client, "Ride") >= least, lambda: source_of(client))
        running.kill()
        if round == 1:
            broker.tell("kill")
            running.start()
            with running.client() as client:
                wait_for(lambda: source_of(client)["state"] == "failed", lambda: source_of(client))
            broker.tell("start")
        else:
            running.start()
    with running.client() as client:
        wait_accepted(client, "Ride", 80_000)
        assert not source_of(client)["error"]
    # Nobody waits for a broker that hangs: neither an order nor the end of the server.
    broker.tell("pause")
    time.sleep(1)
    assert running.run("sources", "pause", "Ride").returncode == 0
    assert running.stop() == 0
    broker.tell("resume")
