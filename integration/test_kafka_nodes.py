"""Several servers on one Kafka log and one PostgreSQL catalog: they share the work, one leads, any may be lost."""

from __future__ import annotations

import random
import re
import shutil

import pytest

from harness import SOAK, wait_until
from load import Load, check_rows
from shop import SOURCE, USERS, rows
from surfaces import metrics, share, slices_of
from thyme.client import Client

ROUNDS = 12 if SOAK else 2
# Of the work on the log: what is so without a setting, and what servers can share.
both = pytest.mark.parametrize("slices", [1, 4])
# Another feature; the build of it is a new commit.
CHANGED = SOURCE.replace('n_1h=Count(window="1h")', 'n_1h=Count(window="90m")').replace(
    "@pipeline(version=1)", "@pipeline(version=2)"
)


@pytest.fixture
def slices() -> int:
    return 1


@pytest.fixture
def make_node(broker, postgres, make_server, slices, request):
    """Servers that share a log and a catalog, not started yet."""
    prefix = f"{request.function.__name__}.{slices}"
    env = {**broker.log(prefix, slices), "THYME_CATALOG__URL": postgres.fresh()}
    return lambda name: make_server(name, env=env)


def asking(replica, other, retry_for: float = 30) -> Client:
    """A client that asks a replica; what the definitions are it is told by a server with a control port."""
    return Client(f"http://{replica.queries}", f"http://{other.control}", retry_for=retry_for)


def owns(server) -> bool:
    """Whether it leads: takes commits."""
    with server.client() as client:
        return "control" in client.status()["roles"]


def owner_of(servers):
    """The one that leads, as soon as one does."""
    leading: list = []

    def found() -> bool:
        leading[:] = [server for server in servers if owns(server)]
        return bool(leading)

    wait_until(found)
    return leading[0]


def commit_of(server) -> str:
    """The commit that a server answers by."""
    with server.client() as client:
        return client.query("UserFeatures", USERS[0]).commit_id


@both
def test_nodes_share_the_work_and_answer_alike(make_node, slices):
    first, second, replica = make_node("first"), make_node("second"), make_node("replica")
    first.start()
    assert owns(first) and slices_of(first) == slices
    second.start()
    replica.start("--role", "query")
    wait_until(lambda: share([first, second]))
    assert slices_of(replica) == 0
    # From here on the first leads. (A single slice stays where it was.)
    if slices > 1 and owns(second):
        first, second = second, first
    wait_until(lambda: owns(first))

    refused = second.commit(SOURCE)
    assert refused.returncode != 0 and "does not lead" in refused.stderr, refused.stderr
    assert first.control in refused.stderr, "it names the owner"
    done = first.commit(SOURCE)
    assert done.returncode == 0, done.stderr

    # Rows go in at either, and all three count each once. A follower hears of a commit within a second.
    wait_until(lambda: is_serving(second))
    with first.client(retry_for=30) as client:
        client.log("Order", rows(300, 1))
    with second.client(retry_for=30) as client:
        position = client.log("Order", rows(300, 2, 300)).position
    sent = rows(300, 1) + rows(300, 2, 300)
    for server in (first, second):
        check_rows(server, sent, position)
    with asking(replica, first) as client:
        answers = client.query_batch("UserFeatures", USERS, at_least=position).to_dicts()
    with first.client() as client:
        assert client.query_batch("UserFeatures", USERS, at_least=position).to_dicts() == answers
        streamed = client.query_many("UserFeatures", USERS, at_least=position)
        assert [answer.to_dicts()[0] for answer in streamed] == answers
    # Each holds what it owns; the replica holds everything.
    held = [server.status()["held_slices"] for server in (first, second)]
    assert held == ([[0], [0]] if slices == 1 else held) and sorted({*held[0], *held[1]}) == list(range(slices))
    wait_until(lambda: slices == 1 or all(len(server.status()["held_slices"]) == 2 for server in (first, second)))
    digests = [server.data("rebuild") for server in (first, second)]
    assert all(found["equal"] for found in digests)
    assert (digests[0]["state_digest"] == digests[1]["state_digest"]) == (slices == 1)

    # A new commit comes to all.
    done = first.commit(CHANGED)
    assert done.returncode == 0, done.stderr
    with asking(replica, first) as client:
        wait_until(lambda: client.query("UserFeatures", USERS[0]).commit_id == commit_of(first))
    wait_until(lambda: commit_of(second) == commit_of(first))

    # A replica without its disk is not short of anything: it answers when it has it all.
    replica.stop()
    shutil.rmtree(replica.directory / "data")
    replica.start("--role", "query")
    with asking(replica, first) as client, first.client() as other:
        asked = client.query_batch("UserFeatures", USERS).to_dicts()
        assert asked == other.query_batch("UserFeatures", USERS, at_least=position).to_dicts()


@both
def test_a_lost_owner_is_replaced_and_nothing_is_lost_or_doubled(make_node, slices):
    servers = [make_node("first").start(), make_node("second").start()]
    wait_until(lambda: share(servers))
    assert owner_of(servers).commit(SOURCE).returncode == 0
    wait_until(lambda: all(map(is_serving, servers)))
    load = Load(servers[1], random.Random(5), retry_for=180)
    for number in range(ROUNDS):
        owner = owner_of(servers)
        load.pause(0.5, 1.5)
        owner.kill()
        if number % 2 == 0 and owner is not load.server:
            # It stays away until the other has taken over its slices, and gets a share again when it is back.
            wait_until(lambda: owns(load.server) and slices_of(load.server) == slices)
            owner.start()
            wait_until(lambda: share(servers))
            assert slices > 1 or not owns(owner)
        else:
            # Back within the session timeout it keeps what it had; on a slow machine it may be too late.
            owner.start()
        load.pause(0.5, 1.5)
    load.finish(timeout=300)
    for server in servers:
        check_rows(server, load.sent, load.position)
        assert server.data("rebuild")["equal"]
    wait_until(lambda: share(servers))
    done = owner_of(servers).commit(CHANGED)
    assert done.returncode == 0, done.stderr


def test_a_follower_says_when_it_is_behind(make_node, broker):
    first, replica = make_node("first").start(), make_node("replica")
    assert first.commit(SOURCE).returncode == 0
    with first.client() as client:
        position = client.log("Order", rows(100, 1)).position
    replica.start("--role", "query")
    with asking(replica, first) as client:
        client.query("UserFeatures", USERS[0], at_least=position)
        wait_until(lambda: behind(replica) == 0 and replica.not_ready() is None)
    broker.tell("kill")
    # It may be asked for 10 s more, and says meanwhile how long it is.
    wait_until(lambda: behind(replica) > 1)
    wait_until(lambda: "log cannot be asked" in (replica.not_ready() or ""))
    told = re.search(r"was last at the end of the log (\d+) s ago", replica.not_ready())
    assert told and int(told[1]) >= 10, replica.not_ready()
    assert behind(replica) >= 9, "less the half second between two looks"
    with asking(replica, first) as client:
        assert client.query("UserFeatures", USERS[0])["n_all"][0] >= 1
    broker.tell("start")
    replica.wait_ready()
    # An owner is behind nobody.
    wait_until(lambda: behind(replica) == 0 and behind(first) == 0)


def behind(server) -> float:
    """Seconds since it was last at the end of the log, as its metrics say."""
    return metrics(server.queries)["thyme_follower_behind_seconds"]


def test_a_replica_needs_what_servers_can_share(make_server):
    alone = make_server("alone").serve_to_end("--role", "query")
    assert alone.returncode != 0 and "log.url is not set" in alone.stderr, alone.stderr
    log = {"THYME_LOG__URL": "kafka://127.0.0.1:1/shop"}
    lonely = make_server("lonely", env=log).serve_to_end("--role", "query")
    assert lonely.returncode != 0 and "catalog.url is not set" in lonely.stderr, lonely.stderr


def is_serving(server) -> bool:
    """Whether it has heard of a commit: another one takes it, and it looks at the catalog twice a second."""
    return bool(server.status()["commit_id"])
