"""Servers for tests, stopped at the end."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Server
from kafka_broker import Broker
from mounts import Mounts, ServerInside
from postgres_server import Postgres
from shop import SOURCE, rows

# They wait the longest. In a parallel run whoever begins last ends last.
LONG_FILES = [
    "test_kafka_nodes",
    "test_kafka_full_disk",
    "test_kafka_storm",
    "test_kafka_checkpoints",
    "test_kafka_parts_away",
    "test_kafka",
    "test_emit",
    "test_checkpoints",
    "test_postgres",
    "test_chain",
    "test_kafka_acls",
    "test_kafka_source_tls",
    "test_kafka_source",
    "test_compose",
    "test_docs",
    "test_demo_short",
    "test_history",
]


def pytest_addoption(parser):
    parser.addoption("--without-kafka", action="store_true", help="leave out every test that starts a Kafka broker")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--without-kafka"):
        left_out = [item for item in items if "start_broker" in item.fixturenames]
        items[:] = [item for item in items if "start_broker" not in item.fixturenames]
        config.hook.pytest_deselected(items=left_out)
    order = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A running server with the definitions of `shop` and 200 orders in state; `counted`: of each user."""
    server = Server(tmp_path_factory.mktemp("shop")).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    orders = rows(200, 1)
    with server.client() as client:
        position = client.log("Order", orders).position
        client.query("UserFeatures", "user_1", at_least=position)
    server.counted = Counter(order["user"] for order in orders)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def start_broker():
    """The one way of a test to a Kafka broker, so that `--without-kafka` knows which tests need one."""
    return Broker


# One broker and one database server for all tests of a process, each test under a prefix or in a database of its own:
# to start one costs as much as a test.
@pytest.fixture(scope="session")
def one_broker(start_broker):
    running = start_broker()
    yield running
    running.close()


@pytest.fixture(scope="session")
def one_postgres():
    running = Postgres()
    yield running
    running.close()


# Asked for before `make_server`, they are there until its servers have ended, which takes long without them.
@pytest.fixture
def broker(one_broker):
    yield one_broker
    one_broker.revive()


@pytest.fixture
def postgres(one_postgres):
    yield one_postgres
    one_postgres.revive()


@pytest.fixture
def server(tmp_path):
    """A running server on the event clock, with nothing committed."""
    running = Server(tmp_path).start()
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path):
    """Servers over folders of their own, not started yet; stopped at the end."""
    made = []

    def make(name="server", **settings):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made.append(Server(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def mounts():
    made = Mounts()
    yield made
    made.close()


@pytest.fixture
def server_inside(mounts, tmp_path):
    """A server that sees `mounts`, not started yet."""
    (tmp_path / "server").mkdir()
    server = ServerInside(tmp_path / "server")
    server.mounts = mounts
    yield server
    if server.process is not None:
        server.kill()
