"""Sources from the command line: a file and a table of a real PostgreSQL; tested, paused over a restart, reset."""

from __future__ import annotations

import json
import time

from harness import wait_until
from surfaces import http

FILE = """
from datetime import datetime

from thyme import FileSource, dataset, field, source


@source(FileSource("lines.jsonl"), every="1s")
@dataset(index=True, version=1)
class Line:
    meter: int = field(key=True)
    ts: datetime = field(timestamp=True)
"""
TABLE = """
from datetime import datetime
from typing import Optional

from thyme import PostgresSource, Secret, dataset, field, source


@source(
    PostgresSource("payments", host="127.0.0.1", port={port}, database="thyme", username="reader",
                   password=Secret(env="{variable}")),
    cursor="ts", every="1s",
)
@dataset(index=True, version=1)
class Payment:
    id: int = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: Optional[float]
"""


def accepted(client, dataset):
    return next(found["counts"] for found in client.list("datasets") if found["name"] == dataset)["accepted"]


def wait_accepted(client, dataset, count):
    deadline = time.monotonic() + 60
    while accepted(client, dataset) < count:
        assert time.monotonic() < deadline, client.list("sources")
        time.sleep(0.05)
    assert accepted(client, dataset) == count


def lines(*meters):
    return "".join(f'{{"meter": {meter}, "ts": "2026-01-15T12:00:00Z"}}\n' for meter in meters)


def test_a_file_is_tested_paused_and_reset(make_server):
    running = make_server(clock="wall")
    path = running.directory / "lines.jsonl"
    path.write_text(lines(1, 2), encoding="utf-8")
    running.start()
    assert running.commit(FILE).returncode == 0
    with running.client() as client:
        wait_accepted(client, "Line", 2)
    paused = running.run("sources", "pause", "Line")
    assert (paused.returncode, paused.stdout, paused.stderr) == (0, "", "the source of Line is paused\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(lines(3))
    tested = running.run("sources", "test", "Line", "-n", "3")
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.split("\n")[0].split() == ["meter", "ts"]
    assert "3  2026-01-15T12:00:00Z" in tested.stdout
    running.stop()
    running.start()
    time.sleep(2)
    with running.client() as client:
        assert accepted(client, "Line") == 2
        assert "paused" in running.run("sources", "list").stdout
        assert running.run("sources", "resume", "Line").returncode == 0
        wait_accepted(client, "Line", 3)
        assert running.run("sources", "reset", "Line").returncode == 0
        while next(d["counts"]["duplicates"] for d in client.list("datasets") if d["name"] == "Line") < 3:
            time.sleep(0.05)
        assert accepted(client, "Line") == 3
    unknown = running.run("sources", "pause", "Lime")
    assert unknown.returncode == 5 and "did you mean 'Line'?" in unknown.stderr, unknown.stderr
    path.write_text("no JSON\n", encoding="utf-8")
    unfit = running.run("sources", "test", "Line")
    assert unfit.returncode == 1 and "line 1 does not fit: not valid JSON" in unfit.stderr, unfit.stderr


PASSWORD = "correct-horse-battery"
WRONG = "wrong-horse-staple"


def files_with(folder, text):
    """Logs, catalog, event log and state included."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_table_is_followed_over_kills_and_the_password_shows_nowhere(postgres, make_server, monkeypatch):
    monkeypatch.setenv("PAYMENTS_PASSWORD", PASSWORD)
    monkeypatch.setenv("WRONG_PASSWORD", WRONG)
    postgres.tell(f"sql CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    postgres.tell("sql CREATE TABLE payments (id bigint PRIMARY KEY, ts timestamptz NOT NULL, amount numeric(10, 2))")
    postgres.tell("sql GRANT SELECT ON payments TO reader")
    postgres.tell("sql INSERT INTO payments VALUES (1, '2026-01-15 13:00+01', 1.50), (2, '2026-01-15 12:00Z', NULL)")
    running = make_server(clock="wall")
    running.start()
    done = running.commit(TABLE.format(port=postgres.port, variable="WRONG_PASSWORD"))
    assert done.returncode == 0, done.stderr
    refused = running.run("sources", "test", "Payment")
    assert refused.returncode == 1 and "password authentication failed" in refused.stderr, refused.stderr
    with running.client() as client:
        while client.list("sources")[0]["state"] != "failed":
            time.sleep(0.05)
    done = running.commit(TABLE.format(port=postgres.port, variable="PAYMENTS_PASSWORD"))
    assert done.returncode == 0, done.stderr
    tested = running.run("sources", "test", "Payment", "--json")
    assert json.loads(tested.stdout)["rows"][0] == {"id": 1, "ts": "2026-01-15T12:00:00Z", "amount": 1.5}
    with running.client() as client:
        wait_accepted(client, "Payment", 2)
        assert client.lookup("Payment", 2).to_dicts()[0]["amount"] is None
        postgres.tell("kill")
        while client.list("sources")[0]["state"] != "failed":
            time.sleep(0.05)
    postgres.tell("start")
    # Several polls, each with ties at its edge; the server dies in the midst of them, twice.
    postgres.tell("sql INSERT INTO payments SELECT n, '2026-01-15 11:00Z', n FROM generate_series(3, 45000) n")
    for _ in range(2):
        with running.client() as client:
            before = accepted(client, "Payment")
            while accepted(client, "Payment") == before < 45_000:
                time.sleep(0.01)
        running.kill()
        running.start()
    with running.client() as client:
        wait_accepted(client, "Payment", 45_000)
        listed = [client.list("sources"), client.events(limit=50), client.list("datasets"), client.list("jobs")]
    shown = json.dumps(listed, default=str) + refused.stderr + refused.stdout + running.run("sources", "list").stdout
    assert "PAYMENTS_PASSWORD" in shown and "reader" in shown
    for password in (PASSWORD, WRONG):
        assert password not in shown
        assert files_with(running.directory, password) == []
    # Nobody waits for a database that hangs: neither an order nor the end of the server.
    postgres.tell("pause")
    paused = running.run("sources", "pause", "Payment")
    assert paused.returncode == 0, paused.stderr
    assert running.run("sources", "resume", "Payment").returncode == 0
    assert running.stop() == 0
    postgres.tell("resume")
    for password in (PASSWORD, WRONG):
        assert files_with(running.directory, password) == []


def test_a_table_is_reset(postgres, make_server, monkeypatch):
    monkeypatch.setenv("BILLS_PASSWORD", "secret")
    postgres.tell("sql CREATE TABLE bills (id bigint PRIMARY KEY, ts timestamptz NOT NULL, amount float)")
    postgres.tell("sql INSERT INTO bills SELECT n, '2026-01-15 12:00Z', n FROM generate_series(1, 4) n")
    running = make_server(clock="wall")
    running.start()
    source = TABLE.replace('"payments"', '"bills"').replace('"reader"', '"postgres"')
    done = running.commit(source.format(port=postgres.port, variable="BILLS_PASSWORD"))
    assert done.returncode == 0, done.stderr

    def duplicates(client):
        return next(found["counts"]["duplicates"] for found in client.list("datasets"))

    with running.client() as client:
        wait_accepted(client, "Payment", 4)
        wait_until(lambda: client.list("sources")[0]["cursor"])
        # Also while it is paused: it is then read from the beginning when it goes on.
        assert running.run("sources", "pause", "Payment").returncode == 0
        told = running.run("sources", "reset", "Payment")
        wanted = "the source of Payment is read from its beginning again\n"
        assert (told.returncode, told.stdout, told.stderr) == (0, "", wanted)
        assert client.list("sources")[0]["cursor"] == ""
        assert running.run("sources", "resume", "Payment").returncode == 0
        wait_until(lambda: duplicates(client) == 4)
        wait_until(lambda: client.list("sources")[0]["cursor"])
        assert running.run("sources", "reset", "Payment").returncode == 0
        wait_until(lambda: duplicates(client) == 8)
        # It goes on from there, with an older cursor too, and a restart does not begin anew.
        postgres.tell("sql INSERT INTO bills VALUES (5, '2026-01-14 12:00Z', 5)")
        wait_accepted(client, "Payment", 5)
        wait_until(lambda: client.list("sources")[0]["state"] == "waiting")
    running.stop()
    running.start()
    postgres.tell("sql INSERT INTO bills VALUES (6, '2026-01-16 12:00Z', 6)")
    with running.client() as client:
        wait_accepted(client, "Payment", 6)
        assert duplicates(client) == 8


def test_its_metadata_is_in_the_catalog(make_server):
    running = make_server(clock="wall")
    (running.directory / "lines.jsonl").write_text(lines(1), encoding="utf-8")
    running.start()
    told = 'every="1s", description="From the cellar.", owner="grid", tags=["raw", "meters"], deprecated=True'
    done = running.commit(FILE.replace('every="1s"', told))
    assert done.returncode == 0, done.stderr
    wanted = {
        "description": "From the cellar.", "owner": "grid", "tags": ["raw", "meters"], "project": "",
        "deprecated": True, "replacement": "",
    }  # fmt: skip
    with running.client() as client:
        wait_until(lambda: client.list("sources"))
    assert [source["metadata"] for source in running.data("sources", "list")] == [wanted]
    inspected = running.data("inspect", "Line")
    assert [source["metadata"] for source in inspected["sources"]] == [wanted]
    assert inspected["metadata"] == {**wanted, "description": "", "owner": "", "tags": [], "deprecated": False}
    shown = running.run("inspect", "Line").stdout.splitlines()
    place = next(number for number, line in enumerate(shown) if line.startswith("source file: "))
    assert shown[place + 1 : place + 5] == [
        "  description: From the cellar.", "  owner: grid", "  tags: raw, meters", "  deprecated: true",
    ]  # fmt: skip
    status, listed = http(f"http://{running.control}/api/v1/sources")
    assert (status, listed["sources"][0]["metadata"]["owner"]) == (200, "grid")
