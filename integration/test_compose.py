"""compose.yaml without Docker: it holds together, and a server runs with exactly the environment it gives."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from kafka_broker import Broker
from load import check_rows
from postgres_server import Postgres
from s3_server import S3
from shop import SOURCE, rows

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
THYME = [name for name, service in SERVICES.items() if "build" in service]


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
    prometheus = yaml.safe_load((ROOT / "docs/operations/prometheus.yml").read_text(encoding="utf-8"))
    targets = [at for job in prometheus["scrape_configs"] for found in job["static_configs"] for at in found["targets"]]
    assert given["THYME_SERVER__QUERY_ADDR"] in targets
    assert all(job["metrics_path"] == "/metrics" for job in prometheus["scrape_configs"])


@pytest.mark.parametrize("service", THYME)
def test_a_server_runs_with_its_environment_on_kafka(make_server, service):
    given = environment(service)
    broker, postgres, store = Broker(), Postgres(), S3()
    try:
        user, name = (environment("postgres")[key] for key in ("POSTGRES_USER", "POSTGRES_DB"))
        # What the image does.
        postgres.tell(f"sql CREATE ROLE {user} SUPERUSER LOGIN PASSWORD 'chosen'")
        assert name == "thyme", "the database that tools/postgres.sh makes"
        assert re.match(r"s3://thyme/", given["THYME_CHECKPOINTS__URL"]), "the bucket that the tests' S3 server has"
        replaced = {
            **given,
            **store.env(),
            "THYME_CHECKPOINTS__URL": given["THYME_CHECKPOINTS__URL"],
            "THYME_CHECKPOINTS__INTERVAL_S": "1",
            "PGPASSWORD": "chosen",
            "THYME_LOG__URL": given["THYME_LOG__URL"].replace("127.0.0.1:9092", broker.address),
            "THYME_CATALOG__URL": given["THYME_CATALOG__URL"].replace("127.0.0.1:5432", postgres.address),
        }
        # The harness gives folder and ports on the command line.
        server = make_server(clock="wall", env=replaced).start()
        done = server.commit(SOURCE)
        assert done.returncode == 0, done.stderr
        sent = rows(200, 1)
        with server.client() as client:
            position = client.log("Order", sent).position
        check_rows(server, sent, position)
        with urllib.request.urlopen(f"http://{server.queries}/metrics", timeout=30) as answer:
            assert "thyme_events_accepted_total" in answer.read().decode()
        until = time.monotonic() + 60
        while server.data("status")["checkpoints"]["number"] is None:
            assert time.monotonic() < until
            time.sleep(0.2)
        server.stop()
        log = server.log_file.read_text(encoding="utf-8")
        assert broker.address in log and postgres.address in log and "chosen" not in log
    finally:
        broker.close()
        postgres.close()
        store.close()
