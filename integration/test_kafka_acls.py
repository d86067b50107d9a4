"""A server on a broker that guards its topics, groups and transactional ids: the rights that the guide lists are
enough, and one that is missing is told wherever one looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from harness import wait_until
from load import check_rows
from shop import SOURCE, rows
from test_kafka_nodes import CHANGED, both

GUIDE = Path(__file__).parent.parent / "docs" / "guide" / "operations.md"
LISTED = re.compile(
    r"With ACLs, grant (.+) on topics, (.+) on groups, (.+) on transactional ids, each with that prefix, and (.+) on "
    r"the cluster\."
)
KINDS = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID, ResourceType.BROKER)
USERS = ("ann", "bob")


class Guarded:
    """Each of `USERS` has a prefix of its own name and no rights at first."""

    def __init__(self, start_broker) -> None:
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        users = " ".join(f'user_{user}="of-{user}"' for user in ("admin", *USERS))
        self.broker = start_broker(
            "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            "listener.name.plaintext.plain.sasl.jaas.config="
            f'{module} required username="admin" password="of-admin" {users};',
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:admin;User:ANONYMOUS",
        )
        login = {"sasl.mechanism": "PLAIN", "sasl.username": "admin", "sasl.password": "of-admin"}
        address = {"bootstrap.servers": self.broker.address, "security.protocol": "SASL_PLAINTEXT"}
        self.admin = AdminClient({**address, **login})

    def log_of(self, user: str, slices: int = 1) -> dict[str, str]:
        login = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"}
        login |= {"SASL_USERNAME": user, "SASL_PASSWORD": f"of-{user}", "SESSION_TIMEOUT_MS": "6000"}
        return self.broker.log(user, slices) | {f"THYME_LOG__KAFKA__{name}": value for name, value in login.items()}

    def grant(self, user: str, *kinds: ResourceType) -> None:
        """What the guide lists."""
        entries = [AclBinding(*entry) for kind in kinds for entry in entries_of(user, kind)]
        for done in self.admin.create_acls(entries).values():
            done.result(30)

    def take(self, user: str, kind: ResourceType) -> None:
        filters = [AclBindingFilter(*entry) for entry in entries_of(user, kind)]
        for done in self.admin.delete_acls(filters).values():
            assert len(done.result(30)) == 1


def listed() -> dict[ResourceType, list[AclOperation]]:
    """The rights, as the guide has them."""
    found = LISTED.search(" ".join(GUIDE.read_text(encoding="utf-8").split()))
    operations = [[AclOperation[name] for name in re.findall(r"[A-Z_]+", part)] for part in found.groups()]
    assert [len(some) for some in operations] == [5, 1, 2, 1], found.groups()
    return dict(zip(KINDS, operations, strict=True))


def entries_of(user: str, kind: ResourceType) -> list[tuple]:
    is_cluster = kind == ResourceType.BROKER
    name = "kafka-cluster" if is_cluster else f"{user}."
    pattern = ResourcePatternType.LITERAL if is_cluster else ResourcePatternType.PREFIXED
    return [
        (kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW) for operation in listed()[kind]
    ]


@pytest.fixture(scope="module")
def guarded(start_broker):
    running = Guarded(start_broker)
    yield running
    running.broker.close()


def is_told(server, *parts: str) -> bool:
    """By the probe and by the status, of which the trouble is a part."""
    probed, status = server.not_ready(), server.status()
    texts = [probed or "", status["trouble"] or ""]
    return all(part in text for part in parts for text in texts) and status["state"] == "degraded"


def refused_commit(server, source: str) -> str:
    done = server.commit(source)
    assert done.returncode != 0, done.stdout
    return done.stderr


@both
def test_the_rights_that_the_guide_lists_are_enough(guarded, make_server, slices):
    # A prefix of the prefix: each has a log of its own.
    server = make_server(env=guarded.log_of("ann", slices))
    server.env["THYME_LOG__URL"] += f".{slices}"
    guarded.grant("ann", *KINDS)
    server.start()
    server.wait_ready()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    sent = rows(200, 1)
    with server.client(retry_for=60) as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    # What the first version had is deleted, and the rest found again without the state.
    done = server.commit(CHANGED)
    assert done.returncode == 0, done.stderr
    with server.client(retry_for=60) as client:
        assert client.erase("Order", [sent[0]["order_id"]]) is not None
        position = client.log("Order", rows(50, 2, 200)).position
        client.query("UserFeatures", "user_1", at_least=position)
    server.stop()
    server.lose_state()
    server.start()
    server.wait_ready()
    with server.client(retry_for=60) as client:
        client.query("UserFeatures", "user_1", at_least=position)
    server.stop()
    text = server.log_file.read_text()
    assert "uthorization" not in text and "grant the principal" not in text, text


def test_a_right_on_groups_that_is_missing_is_told_until_it_is_granted(guarded, make_server):
    right = "grant the principal of [log.kafka] READ on groups with the prefix 'bob.'"
    guarded.grant("bob", *(kind for kind in KINDS if kind != ResourceType.GROUP))
    server = make_server(env=guarded.log_of("bob")).start()
    wait_until(lambda: is_told(server, "bob.owner", "Group authorization failed", right))
    told = refused_commit(server, SOURCE)
    assert "does not lead" in told and right in told and "try again" not in told, told
    shown = server.run("status")
    assert shown.returncode == 0 and right in shown.stdout, shown.stdout
    assert right in server.log_file.read_text()
    assert server.log_file.read_text().count(right) < 5, "told when it is new, not every second"

    guarded.grant("bob", ResourceType.GROUP)
    server.wait_ready()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    sent = rows(100, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)

    # Taken away from who works by it: rows are taken and wait, questions are answered from what is there.
    guarded.take("bob", ResourceType.GROUP)
    wait_until(lambda: is_told(server, "bob.owner", right))
    assert right in refused_commit(server, CHANGED)
    more = rows(100, 2, 100)
    with server.client() as client:
        all_position = client.log("Order", more).position
    check_rows(server, sent, position)

    guarded.grant("bob", ResourceType.GROUP)
    server.wait_ready()
    wait_until(lambda: "control" in server.status()["roles"])
    assert server.status()["trouble"] is None
    check_rows(server, sent + more, all_position)
    done = server.commit(CHANGED)
    assert done.returncode == 0, done.stderr
    server.stop()
