"""Several servers on one Kafka log while another part is away: the catalog in PostgreSQL, the store of checkpoints.
What can go on does, the rest says why it does not; once the part is back everything goes on, and every row counts
once."""

from __future__ import annotations

import random
import shutil
import time

from harness import wait_until
from load import Load, check_rows
from s3_server import S3
from shop import SOURCE, USERS, rows
from test_kafka_checkpoints import held, restored
from test_kafka_nodes import CHANGED, both, is_serving, owner_of, owns, share, slices_of
from thyme import errors, positions


class Sender:
    """Rows to any of the servers, none sent again."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []
        self.position = ""

    def send(self, server) -> None:
        batch = rows(30, len(self.sent), len(self.sent))
        with server.client(retry_for=0) as client:
            self.position = positions.merge([self.position, client.log("Order", batch).position])
        self.sent += batch

    def counted(self, server) -> bool:
        """Whether a server answers, without being asked again, with all that was sent."""
        with server.client(retry_for=0) as client:
            answers = client.query_batch("UserFeatures", USERS, at_least=self.position).to_dicts()
        return sum(answer["n_all"] for answer in answers) == len(self.sent)


def told(server, *parts: str) -> int:
    """How often a server has written one of these."""
    written = server.log_file.read_text(encoding="utf-8")
    return sum(written.count(part) for part in parts)


@both
def test_two_servers_go_on_while_postgres_is_away(broker, postgres, make_server, slices):
    env = {**broker.log(f"uncatalogued{slices}", slices), "THYME_CATALOG__URL": postgres.fresh()}
    servers = [make_server(name, env=env).start() for name in ("first", "second")]
    wait_until(lambda: share(servers))
    owner = owner_of(servers)
    (other,) = (server for server in servers if server is not owner)
    assert owner.commit(SOURCE).returncode == 0
    wait_until(lambda: all(is_serving(server) and server.not_ready() is None for server in servers))

    postgres.tell("kill")
    load = Sender()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        for server, asked in (servers, servers[::-1]):
            load.send(server)
            assert load.counted(server) and load.counted(asked)
    refused = owner.commit(CHANGED)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 7, said
    assert postgres.address in said and "PostgreSQL runs there" in said and "secret" not in said, said
    assert [server.not_ready() for server in servers] == [None, None]

    # The work of one that is lost now waits until what is committed can be read; rows are taken.
    more = ("this node owns these slices of the work", "a slice comes to this node")
    before = told(other, *more)
    owner.kill()

    def is_given_more() -> bool:
        load.send(other)
        return told(other, *more) > before

    wait_until(is_given_more)
    postgres.tell("start")
    wait_until(lambda: owns(other) and slices_of(other) == slices)
    owner.start()
    wait_until(lambda: share(servers))
    done = owner_of(servers).commit(CHANGED)
    assert done.returncode == 0, done.stderr
    for server in servers:
        load.send(server)
    for server in servers:
        check_rows(server, load.sent, load.position)
        assert server.data("rebuild")["equal"]


def test_a_slice_that_moves_while_the_store_is_away_opens_when_it_is_back(broker, postgres, make_server):
    store = S3()
    try:
        moves_while_away(broker, postgres, make_server, store)
    finally:
        store.close()


def moves_while_away(broker, postgres, make_server, store):
    env = {
        **broker.log("unstored", 4),
        **store.env(),
        "THYME_CATALOG__URL": postgres.fresh(),
        "THYME_CHECKPOINTS__INTERVAL_S": "1",
    }
    lost, left = servers = [make_server(name, env=env).start() for name in ("lost", "left")]
    wait_until(lambda: share(servers))
    assert owner_of(servers).commit(SOURCE).returncode == 0
    wait_until(lambda: all(map(is_serving, servers)) and all(len(held(server)) == 2 for server in servers))
    # Nothing is left on its disk of what it does not own.
    wait_until(lambda: len(list((left.directory / "data").glob("state-*"))) == 2)
    load = Load(left, random.Random(8), retry_for=180)
    load.pause(1.0, 2.0)
    # Each slice has one: else it would come from the start of the log.
    wait_until(lambda: all(server.status()["checkpoints"]["number"] is not None for server in servers))
    mine, moved = held(left), held(lost)
    assert sorted(mine + moved) == [0, 1, 2, 3]
    before = len(restored(left))

    store.tell("away")
    lost.kill()
    shutil.rmtree(lost.directory / "data")
    # It tries again and again.
    wait_until(lambda: told(left, "a slice could not be opened, and is tried again") > 2 * len(moved))
    failures = events(left, "slice.failed")
    assert sorted(failure.partition(" could not be opened, and is tried again: ")[0] for failure in failures) == [
        f"slice {slice}" for slice in sorted(moved)
    ], "each is reported once"
    status = left.status()
    assert status["state"] == "degraded", status
    for reason in [*failures, status["trouble"], left.run("status").stdout, left.run("logs", "-n", "500").stdout]:
        assert "the data directory has no state, and it cannot be restored" in reason, reason
        assert "make checkpoints.url reachable" in reason, reason
    # Rows are taken, and what is here is answered for; of the rest it is said that nobody has it. (As of now all would
    # be refused: on the event clock that is the latest event of all slices.)
    assert held(left) == mine
    sent = len(load.sent)
    wait_until(lambda: len(load.sent) > sent)
    refused = []
    with left.client(retry_for=0) as client:
        for user in USERS:
            try:
                client.query("UserFeatures", user, ts=load.sent[-1]["ts"])
            except errors.UnavailableError as error:
                refused.append(str(error))
    assert 0 < len(refused) < len(USERS)
    for error in refused:
        assert any(f"slice {slice} of 4" in error for slice in moved), error

    store.tell("back")
    wait_until(lambda: slices_of(left) == 4 and len(held(left)) == 4)
    # From checkpoints, and not from the start of the log.
    wait_until(lambda: len(restored(left)) >= before + len(moved))
    status = left.status()
    assert status["trouble"] is None and status["state"] == "ready", status
    load.finish(timeout=300)
    load.check()
    assert left.data("rebuild")["equal"]
    assert len(events(left, "slice.failed")) == len(moved)


def events(server, event_type: str) -> list[str]:
    """What was reported of a kind, on any server."""
    with server.client() as client:
        found = client.events(500)["events"]
    return [event["message"] for event in found if event["event_type"] == event_type]
