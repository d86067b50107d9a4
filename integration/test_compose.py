"""compose.yaml without Docker: it holds together, and its four nodes run with exactly the environment it gives."""

from __future__ import annotations

import random
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from harness import Server, wait_until
from load import Load, check_rows
from postgres_server import Postgres
from s3_server import S3
from shop import SOURCE, USERS
from thyme.client import Client

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
THYME = [name for name, service in SERVICES.items() if "build" in service]
ENGINES = [name for name in THYME if "THYME_SERVER__ROLE" not in SERVICES[name]["environment"]]
REPLICAS = [name for name in THYME if name not in ENGINES]
ADDRESSES = ("THYME_SERVER__CONTROL_ADDR", "THYME_SERVER__QUERY_ADDR")


def environment(service):
    return {name: str(value) for name, value in SERVICES[service]["environment"].items()}


def settings():
    source = (ROOT / "services/server/src/config/settings.rs").read_text(encoding="utf-8")
    return re.findall(r'setting\(\s*"([^"]*)"', source)


def test_it_holds_together():
    assert THYME
    volumes = [volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {volume for volume in volumes if not volume.startswith(".")} == set(COMPOSE["volumes"])
    assert all((ROOT / volume).is_file() for volume in volumes if volume.startswith("."))
    for name, service in SERVICES.items():
        assert ("image" in service) != ("build" in service), name
        assert ":" in service.get("image", ":"), f"{name}: a version"
        for needed, how in service.get("depends_on", {}).items():
            ready = "service_healthy" if "healthcheck" in SERVICES[needed] else "service_completed_successfully"
            assert how == {"condition": ready}, (name, needed)
            # What is waited for to end must end.
            assert ("restart" in SERVICES[needed]) == (ready == "service_healthy"), needed
        if "network_mode" in service:
            assert service["network_mode"] == "host" and "ports" not in service, name
        # Nothing is open to other machines.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    for name in THYME:
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


def test_nodes_are_of_one_system_with_a_disk_and_ports_of_their_own():
    assert len(ENGINES) == len(REPLICAS) == 2
    assert all(environment(name)["THYME_SERVER__ROLE"] == "query" for name in REPLICAS)
    own = {*ADDRESSES, "THYME_SERVER__ROLE"}
    shared = [{key: value for key, value in environment(name).items() if key not in own} for name in THYME]
    assert all(settings == shared[0] for settings in shared)
    # A replica opens no control port.
    ports = [environment(name)[key] for name in THYME for key in ADDRESSES if key in environment(name)]
    published = [port.rpartition(":")[0] for other in SERVICES.values() for port in other.get("ports", [])]
    assert len(ports) == 6 and len({*ports, *published}) == len(ports) + len(published)
    assert all(ADDRESSES[0] in environment(name) for name in ENGINES)
    disks = [volume for name in THYME for volume in SERVICES[name]["volumes"]]
    assert [disk.partition(":")[2] for disk in disks] == [shared[0]["THYME__DATA_DIR"]] * 4
    assert len(set(disks)) == 4
    prometheus = yaml.safe_load((ROOT / "docs/operations/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    targets = [at for found in job["static_configs"] for at in found["targets"]]
    assert sorted(targets) == sorted(environment(name)["THYME_SERVER__QUERY_ADDR"] for name in THYME)
    assert job["metrics_path"] == "/metrics"
    page = (ROOT / "docs/operations/compose.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in SERVICES) and all(f"`{port}`" in page for port in ports)


def test_what_is_substituted_is_explained():
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    page = (ROOT / "docs/operations/compose.md").read_text(encoding="utf-8")
    names = re.findall(r"\$\{(\w+)[^}$]*\}", text)
    assert len(names) == text.count("$"), "a $ that stands for itself is written $$"
    assert names and all(f"export {name}=" in page for name in names)


@pytest.mark.parametrize("service", THYME)
def test_every_variable_is_a_setting(service):
    known = {"PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    for key in settings():
        section, _, name = key.upper().rpartition(".")
        known.add(f"THYME_{section}__{name}" if section else f"THYME__{name}")
    assert set(environment(service)) <= known


@pytest.mark.parametrize("service", THYME)
def test_addresses_are_those_of_the_other_services(service):
    given = environment(service)
    published = {port.split(":")[1] for other in SERVICES.values() for port in other.get("ports", [])}
    assert re.search(r":(\d+)/", given["THYME_LOG__URL"])[1] in published
    assert re.search(r":(\d+)/", given["THYME_CATALOG__URL"])[1] in published
    database = environment("postgres")
    assert given["THYME_CATALOG__URL"].startswith(f"postgres://{database['POSTGRES_USER']}@")
    assert given["THYME_CATALOG__URL"].endswith(f"/{database['POSTGRES_DB']}")
    variable = re.match(r"\$\{(\w+)", database["POSTGRES_PASSWORD"])[1]
    assert given["PGPASSWORD"] == f"${{{variable}}}", "the same password, and nowhere else"
    store, bucket = environment("store"), environment("bucket")
    assert re.search(r":(\d+)$", given["THYME_CHECKPOINTS__ENDPOINT"])[1] in published
    assert bucket["AWS_ENDPOINT_URL"] == given["THYME_CHECKPOINTS__ENDPOINT"]
    assert given["AWS_ACCESS_KEY_ID"] == bucket["AWS_ACCESS_KEY_ID"] == store["AWS_ACCESS_KEY_ID"]
    secret = re.match(r"\$\{(\w+)", store["AWS_SECRET_ACCESS_KEY"])[1]
    assert given["AWS_SECRET_ACCESS_KEY"] == bucket["AWS_SECRET_ACCESS_KEY"] == f"${{{secret}}}"
    name = re.match(r"s3://([^/]+)/", given["THYME_CHECKPOINTS__URL"])[1]
    assert f"create-bucket --bucket {name}" in " ".join(SERVICES["bucket"]["entrypoint"])


class Node(Server):
    """A server that takes folder and ports from its environment too, as in a container; both are other ones here."""

    def __init__(self, directory: Path, given: dict[str, str], replaced: dict[str, str]) -> None:
        super().__init__(directory, clock="wall")
        places = dict(zip(ADDRESSES, (self.control, self.queries), strict=True), THYME__DATA_DIR="data")
        self.env |= given | replaced | {key: places[key] for key in places if key in given}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "thyme", "serve", *arguments]

    def metrics(self) -> dict[str, float]:
        """Those without labels."""
        with urllib.request.urlopen(f"http://{self.queries}/metrics", timeout=30) as answer:
            lines = re.findall(r"^(\w+) (\S+)$", answer.read().decode(), re.MULTILINE)
        return {name: float(value) for name, value in lines}


@pytest.fixture
def started(broker, tmp_path):
    """The nodes of the file, by name, beside a real broker, a real PostgreSQL and the tests' S3 server."""
    postgres, store, nodes = Postgres(), S3(), {}
    user, name = (environment("postgres")[key] for key in ("POSTGRES_USER", "POSTGRES_DB"))
    # What the image does.
    postgres.tell(f"sql CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'chosen'")
    assert name == "thyme", "the database that tools/postgres.sh makes"
    for service in THYME:
        given = environment(service)
        assert re.match(r"s3://thyme/", given["THYME_CHECKPOINTS__URL"]), "the bucket that the tests' S3 server has"
        replaced = {
            **store.env(),
            "THYME_CHECKPOINTS__URL": given["THYME_CHECKPOINTS__URL"],
            "THYME_CHECKPOINTS__INTERVAL_S": "1",
            "PGPASSWORD": "chosen",
            "THYME_LOG__URL": given["THYME_LOG__URL"].replace("127.0.0.1:9092", broker.address),
            "THYME_CATALOG__URL": given["THYME_CATALOG__URL"].replace("127.0.0.1:5432", postgres.address),
        }
        (tmp_path / service).mkdir()
        nodes[service] = Node(tmp_path / service, given, replaced)
    try:
        for node in nodes.values():
            node.launch()
        for node in nodes.values():
            node.wait_ready()
        yield nodes
        log = "".join(node.log_file.read_text(encoding="utf-8") for node in nodes.values())
        assert broker.address in log and postgres.address in log and "chosen" not in log
    finally:
        for node in nodes.values():
            node.stop()
        postgres.close()
        store.close()


def owners(nodes) -> list[str]:
    return [name for name, node in nodes.items() if node.process.poll() is None and node.metrics()["thyme_owner"] == 1]


def answers(node, load) -> list[dict[str, object]]:
    """As of the last row, since the clock is the wall's. What the definitions are the load's server says."""
    with Client(f"http://{node.queries}", f"http://{load.server.control}", retry_for=60) as client:
        found = client.query_batch("UserFeatures", USERS, ts=load.sent[-1]["ts"], at_least=load.position)
    return found.to_dicts()


def test_nodes_on_kafka_answer_alike_and_outlive_their_owner(started):
    wait_until(lambda: len(owners(started)) == 1)
    (owner,) = owners(started)
    (other,) = [name for name in ENGINES if name != owner]
    lost, heir = started[owner], started[other]
    refused = heir.commit(SOURCE)
    assert refused.returncode != 0 and f"send it to the one that does: http://{lost.control}" in refused.stderr
    done = lost.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    assert "work:     owns it" in lost.run("status").stdout
    assert "work:     follows the owner" in heir.run("status").stdout
    wait_until(lambda: lost.status()["commit_id"] == heir.status()["commit_id"])

    # Rows go in at the one that stands by, while the owner is killed and stays away.
    load = Load(heir, random.Random(11), retry_for=180)
    load.pause(1, 2)
    wait_until(lambda: lost.status()["checkpoints"]["number"] is not None)
    lost.kill()
    wait_until(lambda: owners(started) == [other])
    load.pause(1, 2)
    load.finish(timeout=300)
    check_rows(heir, load.sent, load.position)
    assert heir.metrics()["thyme_follower_behind_seconds"] == 0
    truth = answers(heir, load)
    for name in REPLICAS:
        assert answers(started[name], load) == truth, name

    # Back again, without its disk, it follows.
    shutil.rmtree(lost.directory / "data")
    lost.launch()
    lost.wait_ready()
    assert owners(started) == [other]
    assert answers(lost, load) == truth
    assert lost.status()["checkpoints"]["restored"] is not None
