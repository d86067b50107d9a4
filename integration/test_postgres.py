"""The server with its catalog in a real PostgreSQL: kept over restarts, away and back, what is refused at the start."""

from __future__ import annotations

import json
import random
import shutil
import time
import urllib.request

import pytest

from harness import SOAK
from load import Load, check_rows
from shop import SOURCE, USERS, rows
from thyme import errors

ROUNDS = 10 if SOAK else 2


def changed(version: int) -> str:
    """The same definitions with another extractor."""
    numbered = SOURCE.replace("@extractor\n", f"@extractor(version={version})\n")
    return numbered.replace("return total_1d /", f"return {version}.0 + total_1d /")


CHANGED = changed(2)


def on(postgres, database):
    return {"THYME_CATALOG__URL": postgres.url(database)}


def all_runs(client) -> list[str]:
    """The ids of the query runs that are recorded."""
    found, cursor = [], ""
    while True:
        page = client.runs(limit=1000, cursor=cursor)
        found += [run["id"] for run in page["runs"]]
        cursor = page.get("next_cursor") or ""
        if not cursor:
            return found


def recorded_runs(server, expected: int) -> int:
    """How many query runs are recorded in the end, each once."""
    deadline = time.monotonic() + 60
    with server.client(retry_for=60) as client:
        while len(found := all_runs(client)) < expected and time.monotonic() < deadline:
            time.sleep(0.2)
    assert len(set(found)) == len(found)
    return len(found)


def test_what_is_committed_is_there_after_a_kill(postgres, make_server):
    postgres.tell("sql CREATE DATABASE kept")
    server = make_server(clock="wall", env=on(postgres, "kept")).start()
    assert server.commit(SOURCE).returncode == 0
    sent = rows(300, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    server.kill()
    server.start()
    check_rows(server, sent, position)
    done = server.commit(CHANGED)
    assert done.returncode == 0, done.stderr
    check_rows(server, sent, position)
    server.stop()
    server.start()
    check_rows(server, sent, position)
    with urllib.request.urlopen(f"http://{server.control}/api/v1/commits", timeout=30) as answer:
        assert [commit["state"] for commit in json.load(answer)["commits"]] == ["active", "replaced"]
    server.stop()
    data = server.directory / "data"
    assert not (data / "catalog.db").exists()
    assert postgres.address in (data / "CATALOG").read_text(encoding="utf-8")
    assert "secret" not in (data / "CATALOG").read_text(encoding="utf-8")
    log = server.log_file.read_text(encoding="utf-8")
    assert postgres.address in log and "secret" not in log

    # The state goes by ids of its catalog: with another one it would answer with other tables.
    postgres.tell("sql CREATE DATABASE stranger")
    server.env.update(on(postgres, "stranger"))
    other = server.serve_to_end()
    assert other.returncode != 0 and "made with another catalog" in other.stderr and "/kept" in other.stderr, (
        other.stderr
    )
    server.env["THYME_CATALOG__URL"] = "sqlite:"
    file = server.serve_to_end()
    assert file.returncode != 0 and "made with another catalog" in file.stderr, file.stderr
    # A new data directory on the same catalog has the same definitions, and is empty.
    server.env.update(on(postgres, "kept"))
    shutil.rmtree(data)
    server.start()
    with server.client() as client:
        assert client.query("UserFeatures", USERS[0]).to_dicts()[0]["n_all"] == 0
    server.stop()


def test_a_data_directory_with_a_catalog_of_its_own_is_refused(postgres, make_server):
    server = make_server(env={"THYME_CATALOG__URL": "sqlite:"}).start()
    assert server.commit(SOURCE).returncode == 0
    server.stop()
    server.env.update(on(postgres, "thyme"))
    refused = server.serve_to_end()
    assert refused.returncode != 0 and "made with another catalog, sqlite:" in refused.stderr, refused.stderr


@pytest.mark.parametrize(("stop", "go"), [("kill", "start"), ("pause", "resume")])
def test_while_postgres_is_away_rows_and_questions_go_on(postgres, make_server, stop, go):
    server = make_server(env={"THYME_CATALOG__URL": postgres.fresh()}).start()
    assert server.commit(SOURCE).returncode == 0
    load = Load(server, random.Random(5), retry_for=0)
    asked = 0
    load.pause(0.2, 0.5)
    postgres.tell(stop)
    with server.client(retry_for=0) as client:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            client.query("UserFeatures", USERS[asked % len(USERS)])
            asked += 1
        assert client.status()["state"]
        with pytest.raises(errors.UnavailableError) as listed:
            client.runs()
        assert postgres.address in str(listed.value)
    refused = server.commit(CHANGED)
    told = refused.stdout + refused.stderr
    assert refused.returncode == 7, told
    assert postgres.address in told and "PostgreSQL runs there" in told and "secret" not in told, told
    postgres.tell(go)
    assert recorded_runs(server, asked) == asked
    done = server.commit(CHANGED)
    assert done.returncode == 0, done.stderr
    load.finish(timeout=120)
    load.check()
    server.stop()
    log = server.log_file.read_text(encoding="utf-8")
    assert "query runs wait for the catalog" in log and "were not recorded" not in log
    assert "panicked" not in log and "secret" not in log


def test_killed_together_with_postgres_it_comes_back(postgres, make_server):
    server = make_server(env={"THYME_CATALOG__URL": postgres.fresh()}).start()
    chance = random.Random(3)
    assert server.commit(SOURCE).returncode == 0
    load = Load(server, chance, retry_for=180)
    for number in range(ROUNDS):
        load.pause(0.3, 0.6)
        # The commit meets both ends at some moment; whatever comes of it, the next start is whole.
        (server.directory / "features.py").write_text(changed(number + 2), encoding="utf-8")
        postgres.tell("kill")
        server.kill()
        refused = server.serve_to_end()
        assert refused.returncode != 0 and postgres.address in refused.stderr, refused.stderr
        postgres.tell("start")
        server.start()
        done = server.run("commit", "features.py")
        assert done.returncode == 0, done.stderr
    load.finish(timeout=180)
    load.check()
    server.stop()


def refusal(make_server, name, url, *parts):
    refused = make_server(name, env={"THYME_CATALOG__URL": url}).serve_to_end()
    assert refused.returncode != 0
    for part in ("catalog", *parts):
        assert part in refused.stderr, (part, refused.stderr)
    assert "secret" not in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr


def test_what_cannot_work_is_refused_at_the_start_with_the_fix(postgres, make_server):
    refusal(
        make_server, "password", postgres.url(user="postgres:secret2"), "authentication failed", "correct the password"
    )
    refusal(make_server, "database", postgres.url("nowhere"), '"nowhere" does not exist', "create the database")
    postgres.tell("sql CREATE ROLE guest LOGIN PASSWORD 'secret'")
    refusal(make_server, "rights", postgres.url(user="guest:secret"), "permission denied", "GRANT CREATE")
    refusal(
        make_server, "address", "postgres://postgres:secret@127.0.0.1:1/thyme", "127.0.0.1:1", "PostgreSQL runs there"
    )
    refusal(make_server, "scheme", "postgre://postgres:secret@127.0.0.1:1/thyme", "catalog.url", "postgres")
    refusal(make_server, "tls", postgres.url() + "?sslmode=require", "TLS", "sslmode")


def test_a_catalog_of_a_newer_version_is_refused_with_both_named(postgres, make_server):
    server = make_server(env=on(postgres, "thyme")).start()
    server.stop()
    columns = "version, description, success, checksum, execution_time"
    postgres.tell(f"sql INSERT INTO _sqlx_migrations ({columns}) VALUES (99, 'later', true, '', 0)")
    refused = server.serve_to_end()
    assert refused.returncode != 0
    assert "schema version 99" in refused.stderr and "knows 1 to 1" in refused.stderr, refused.stderr
    assert "run the version of thyme that wrote it" in refused.stderr
