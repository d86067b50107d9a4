"""The whole path by the real command and the real server: from `thyme init` to a restart after SIGKILL."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Server

from thyme import errors
from thyme.spines import read_spine
from thyme.writers import write_table

importlib.import_module("thyme._native")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    project = Server(tmp_path_factory.mktemp("shop"), clock="wall")
    assert project.run("init", ".").returncode == 0
    project.start()
    for arguments in (["commit", "features.py"], ["ingest", "Order", "orders.jsonl", "--event-id", "ts"]):
        done = project.run(*arguments)
        assert done.returncode == 0, done.stderr
    yield project
    project.stop()


@pytest.fixture(scope="module")
def orders(shop):
    lines = (shop.directory / "orders.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def expected(orders, user, at):
    """Brute force over the file."""
    mine = [(moment(row["ts"]), row["amount"]) for row in orders if row["user_id"] == user]
    day = [amount for time, amount in mine if at - timedelta(days=1) <= time <= at]
    week = [amount for time, amount in mine if at - timedelta(days=7) <= time <= at]
    return len(day), sum(week)


def visible(shop, orders):
    """Waits until everything that was sent is in the answers."""
    with shop.client() as client:
        return client.log("Order", orders[-1:], event_ids=[orders[-1]["ts"]]).position


def test_answers_are_those_of_a_brute_force(shop, orders):
    position = visible(shop, orders)
    with shop.client() as client:
        for user in sorted({row["user_id"] for row in orders}):
            for at in (moment(orders[-1]["ts"]), moment(orders[1000]["ts"])):
                result = client.query("UserFeatures", user, ts=at, at_least=position)
                count, spend = expected(orders, user, at)
                assert result["orders_1d"] == [count]
                assert result["spend_7d"] == [pytest.approx(spend, abs=1e-9)]


def test_the_command_answers_the_same(shop, orders):
    at = orders[1500]["ts"]
    body = shop.data("query", "UserFeatures", "-e", "user_7", "--at", at)
    count, spend = expected(orders, "user_7", moment(at))
    assert body["key"] == {"uid": "user_7"}
    assert body["features"]["orders_1d"] == count
    assert body["features"]["spend_7d"] == pytest.approx(spend, abs=1e-9)
    assert body["ts"] == at
    done = shop.run("query", "UserFeatures", "-e", "user_7", "-e", "user_8", "--at", at)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert f"Results: run {shop.data('runs', '-n', '1')['runs'][0]['id'][:1]}" in done.stderr


def test_an_export_equals_single_queries(shop, orders, tmp_path):
    spine = pa.table({"uid": [f"user_{n % 20}" for n in range(200)], "ts": [orders[n * 10]["ts"] for n in range(200)]})
    pq.write_table(spine, tmp_path / "spine.parquet")
    out = tmp_path / "out.parquet"
    done = shop.run(
        "query-offline", "UserFeatures", "--input", str(tmp_path / "spine.parquet"), "--entity-column", "uid",
        "--timestamp-column", "ts", "-o", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(out).to_pylist()
    assert [(row["uid"], row["ts"]) for row in rows] == [(row["uid"], row["ts"]) for row in spine.to_pylist()]
    with shop.client() as client:
        for row in rows[::17]:
            single = client.query("UserFeatures", row["uid"], ts=row["ts"]).to_dicts()[0]
            assert {name: row[name] for name in single} == single


def test_an_export_is_the_same_in_every_form(shop, orders, tmp_path):
    """Files of every kind and stdin, as a table and as a stream."""
    spine = pa.table(
        {"uid": [f"user_{n % 20}" for n in range(20_000)], "ts": [orders[n % 2_000]["ts"] for n in range(20_000)]}
    )
    with shop.client() as client:
        asked = {"timestamp_column": "ts", "at_least": visible(shop, orders)}
        expected = client.query_offline("UserFeatures", spine, **asked).to_dicts()
        assert client.query_offline("UserFeatures", spine.to_reader(999), stream=True, **asked).to_dicts() == expected
    for ending in ("parquet", "arrow", "csv", "jsonl"):
        write_table(spine, str(tmp_path / f"spine.{ending}"), None)
        given, out = str(tmp_path / f"spine.{ending}"), str(tmp_path / f"out.{ending}")
        done = shop.run("query-offline", "UserFeatures", "--input", given, "--timestamp-column", "ts", "-o", out)
        assert done.returncode == 0, done.stderr
        assert "20000 rows to" in done.stderr
        found = read_spine(out, None, {})[0].read_all().select(list(expected[0])).to_pylist()
        for row in found:
            row["ts"] = row["ts"] if isinstance(row["ts"], str) else row["ts"].isoformat().replace("+00:00", "Z")
        assert [row["uid"] for row in found] == [row["uid"] for row in expected]
        assert [row["orders_1d"] for row in found] == [row["orders_1d"] for row in expected]
        assert [row["spend_7d"] for row in found] == [row["spend_7d"] for row in expected]


def test_an_interrupted_export_leaves_nothing(shop, tmp_path):
    """The spine comes from a pipe that never ends: only the signal ends the command."""
    command = [sys.executable, "-m", "thyme", "query-offline", "UserFeatures", "--input", "-", "--format", "arrow"]
    process = subprocess.Popen(
        [*command, "--timestamp-column", "ts", "-o", str(tmp_path / "out.parquet")],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=shop.env, cwd=shop.directory,
    )  # fmt: skip
    batch = pa.record_batch({"uid": ["user_1"] * 10_000, "ts": ["2024-01-15T00:00:00Z"] * 10_000})
    with contextlib.suppress(OSError), pa.ipc.new_stream(process.stdin, batch.schema) as writer:
        while not os.listdir(tmp_path):
            assert process.poll() is None
            writer.write_batch(batch)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in process.stderr.read()
    assert os.listdir(tmp_path) == []


def test_lookup_and_explain(shop, orders):
    newest = [row for row in orders if row["user_id"] == "user_7"][-1]
    body = shop.data("lookup", "Order", "-e", "user_7")
    assert (body["features"]["amount"], body["features"]["ts"]) == (newest["amount"], newest["ts"])
    assert shop.data("lookup", "Order", "-e", "nobody")["features"] is None
    explained = shop.data("explain", "UserFeatures", "-e", "user_7", "--features", "orders_1d", "--at", newest["ts"])
    found = explained["explanations"][0]  # then what it was made from
    assert found["value"] == expected(orders, "user_7", moment(newest["ts"]))[0]
    assert found["window_end"] == newest["ts"]
    assert found["events"][0]["event_time"] == newest["ts"]


def test_what_the_catalog_says(shop, orders):
    status = shop.data("status")
    counts = {found["name"]: found["counts"]["accepted"] for found in status["datasets"]}
    assert counts["Order"] == len({row["ts"] for row in orders})
    held = shop.data("inspect")
    assert [found["name"] for found in held["featuresets"]] == ["UserFeatures"]
    for arguments in (["status"], ["inspect"], ["inspect", "Order"], ["inspect", "UserFeatures"], ["runs"], ["logs"]):
        done = shop.run(*arguments)
        assert done.returncode == 0, done.stderr
    run = shop.data("runs", "-n", "1")["runs"][0]
    assert shop.data("runs", "show", run["id"])["id"] == run["id"]


def test_a_commit_is_idempotent_and_a_plan_changes_nothing(shop):
    assert shop.data("plan", "features.py")["unchanged"] is True
    before = shop.data("status")["commit_id"]
    assert shop.run("commit", "features.py").returncode == 0
    assert shop.data("status")["commit_id"] == before


def test_mistakes_have_their_exit_codes(shop):
    assert shop.run("query", "UserFeature", "-e", "x").returncode == 5
    done = shop.run("query", "UserFeatures", "-e", "x", "--features", "spend_7")
    assert done.returncode in (1, 5)
    assert "did you mean 'spend_7d'" in done.stderr
    broken = (
        (shop.directory / "features.py").read_text(encoding="utf-8").replace("spend_7d: float\n", "spend_7d: str\n", 1)
    )
    (shop.directory / "broken.py").write_text(broken, encoding="utf-8")
    done = shop.run("commit", "broken.py")
    assert done.returncode == 4
    assert "spend_7d" in done.stderr
    done = shop.run(
        "ingest", "Order", "-", stdin='{"user_id": null, "ts": "2024-01-15", "amount": 1, "item_count": 1}\n'
    )
    assert done.returncode == 1
    assert "row 1" in done.stderr
    with shop.client() as client, pytest.raises(errors.InvalidArgumentError):
        client.query_offline("UserFeatures", [{"uid": 5, "timestamp": datetime.now(timezone.utc)}])


def test_retries_and_a_kill_lose_and_double_nothing(shop, orders):
    at = moment(orders[-1]["ts"])
    with shop.client() as client:
        before = client.query("UserFeatures", "user_7", ts=at).to_dicts()
        position = client.query("UserFeatures", "user_7", ts=at).position
    shop.kill()
    shop.start()
    assert shop.run("ingest", "Order", "orders.jsonl", "--event-id", "ts").returncode == 0
    visible(shop, orders)
    with shop.client() as client:
        assert client.query("UserFeatures", "user_7", ts=at).to_dicts() == before
        assert client.query("UserFeatures", "user_7", ts=at, known_at=position).to_dicts() == before


def test_a_second_server_on_the_directory_is_refused_and_the_first_stops_cleanly(shop):
    done = shop.run("serve", "--data-dir", "data", "--control-addr", "127.0.0.1:0", "--query-addr", "127.0.0.1:0")
    assert done.returncode != 0
    assert "data" in done.stderr
    assert shop.stop() == 0
