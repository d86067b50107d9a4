"""The topic of an aggregated dataset (`emit=True`), read by a consumer that is not ours: each accepted event has its
row once, as of its own place, whichever server dies."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections import defaultdict
from datetime import datetime, timedelta

import pytest
from confluent_kafka import Consumer, TopicPartition

from harness import wait_until
from load import Load, check_rows
from shop import SOURCE
from test_kafka_nodes import both, is_serving, owner_of, owns, share

EMITTING = SOURCE.replace(
    "@dataset(index=True, version=1)\nclass UserStats", "@dataset(index=True, version=1, emit=True)\nclass UserStats"
)
TOPIC = "UserStats.v1.compute.v1"


def read_all(address: str, topic: str) -> list[list[dict[str, object]]]:
    """For each partition what a `read_committed` consumer sees, up to the end."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "somebody",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    found = []
    for partition in sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions):
        consumer.assign([TopicPartition(topic, partition, 0)])
        records = []
        while (message := consumer.poll(30)) is not None and message.error() is None:
            headers = {name: value.decode() for name, value in message.headers()}
            records.append({"key": message.key(), "row": json.loads(message.value()), **headers})
        assert message is not None, "the broker is silent"
        found.append(records)
    consumer.close()
    return found


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def check(partitions, sent) -> None:
    """Against brute force over the events in the order of the topic; order between users is the repartition log's."""
    amounts = {(row["user"], time_of(row["ts"])): row["amount"] for row in sent}
    assert len(amounts) == len(sent), "the test tells rows apart by user and time"
    keys: dict[str, set[tuple[int, bytes]]] = defaultdict(set)
    seen: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for number, records in enumerate(partitions):
        places = [int(record["thyme-offset"]) for record in records]
        assert places == sorted(set(places)), "twice, or out of order"
        for record in records:
            assert record["thyme-log"].startswith("Order.v1.by."), record
            assert int(record["thyme-partition"]) == number
            assert "thyme-errors" not in record
            row = record["row"]
            user, time = row["user"], time_of(row["ts"])
            keys[user].add((number, record["key"]))
            seen[user].append((time, amounts[user, time]))
            known = [(at, amount) for at, amount in seen[user] if at <= time]
            day = [amount for at, amount in known if at >= time - timedelta(days=1)]
            assert row["n_all"] == len(known)
            assert row["n_1h"] == sum(at >= time - timedelta(hours=1) for at, _ in known)
            assert row["most_1d"] == max(day) and row["least_1d"] == min(day)
            assert row["big_1d"] == sum(amount > 50 for amount in day)
            assert row["total_1d"] == pytest.approx(sum(day), rel=1e-12)
            newest = sorted(((at, amount) for at, amount in known if at >= time - timedelta(days=1)), reverse=True)
            assert row["newest"] == [amount for _, amount in newest[:3]]
            assert row["last_city"] is None or row["last_city"] in ("Oslo", "Rome")
    assert all(len(places) == 1 for places in keys.values()), "a key is in one partition"
    there = sorted((user, time) for user, rows in seen.items() for time, _ in rows)
    assert there == sorted(amounts), "an event without a row, or with two"


@both
def test_each_row_is_there_once_whichever_server_dies(broker, postgres, make_server, slices):
    env = {**broker.log(f"emitted{slices}", slices), "THYME_CATALOG__URL": postgres.fresh()}
    servers = [make_server(name, env=env).start() for name in ("first", "second")]
    wait_until(lambda: share(servers))
    done = owner_of(servers).commit(EMITTING)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: all(map(is_serving, servers)))
    # A few rows at a time, so that a brute force over all of them is soon done.
    load = Load(servers[1], random.Random(5), retry_for=180, most=30, rest_seconds=0.1)
    # One is lost and back at once; then one is lost for so long that the other takes over.
    for stays_away in (False, True):
        time.sleep(1)
        owner = owner_of(servers)
        if stays_away and owner is servers[1]:
            # The one that takes the rows must stay: it stands down by a restart of its own.
            owner.kill()
            wait_until(lambda: owns(servers[0]))
            owner.start()
            owner = servers[0]
        owner.kill()
        if stays_away:
            wait_until(lambda: owns(servers[1]))
        owner.start()
    time.sleep(1)
    load.finish(timeout=300)
    load.check()

    topic = f"emitted{slices}.{TOPIC}"
    wait_until(lambda: sum(map(len, read_all(broker.address, topic))) >= len(load.sent))
    check(read_all(broker.address, topic), load.sent)

    # Nothing is written again by who builds its state from the start of the log.
    owner = owner_of(servers)
    owner.stop()
    owner.lose_state()
    owner.start()
    wait_until(lambda: any(owns(server) for server in servers))
    check_rows(servers[1], load.sent, load.position)
    check(read_all(broker.address, topic), load.sent)


def test_the_plan_shows_the_topic_which_comes_and_goes_with_emit(broker, make_server):
    server = make_server(env=broker.log("plans")).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0 and TOPIC not in done.stdout, done
    sent = [
        {"order_id": number, "ts": f"2025-06-15T12:0{number}:00Z", "user": "u", "amount": 1.5, "city": None}
        for number in range(4)
    ]
    with server.client() as client:
        client.log("Order", sent)

    done = server.commit(EMITTING)
    assert done.returncode == 0, done.stderr
    assert "emit false -> true" in done.stdout and f"topic {TOPIC}" in done.stdout, done.stdout
    # What came before is there too.
    wait_until(lambda: sum(map(len, read_all(broker.address, f"plans.{TOPIC}"))) == len(sent))
    check(read_all(broker.address, f"plans.{TOPIC}"), sent)
    with server.client() as client:
        wait_until(lambda: client.status()["emissions"] == [{"dataset": "UserStats", "topic": TOPIC, "lag": 0}])
    assert f"{TOPIC}, 0 records behind its pipeline" in server.run("status").stdout
    with urllib.request.urlopen(f"http://{server.control}/metrics", timeout=30) as answer:
        lags = [line for line in answer.read().decode().splitlines() if line.startswith("thyme_emit_lag_records{")]
    assert lags and all(f'topic="{TOPIC}"' in line and line.endswith(" 0") for line in lags), lags

    done = server.commit(SOURCE)
    assert done.returncode == 0 and f"topic {TOPIC}" in done.stdout, done

    bounded = EMITTING.replace('max_lateness="6h")', 'max_lateness="6h", history="30d")').replace(
        'window="forever"', 'window="30d"'
    )
    refused = server.commit(bounded)
    assert refused.returncode != 0
    assert "emit of 'UserStats' needs all events of 'Order'" in refused.stderr, refused.stderr
