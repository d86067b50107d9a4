"""Checkpoints of a real server in a folder and on an S3 server: killed while it uploads, its state lost, files damaged,
the store away; and `thyme rebuild`."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time

import pytest

from harness import SOAK
from load import Load, check_rows
from s3_server import S3
from shop import SOURCE, rows

KILLS = 20 if SOAK else 3


class Folder:
    """A store in a folder."""

    def __init__(self, path):
        self.path = path

    def env(self):
        return {"THYME_CHECKPOINTS__URL": f"file://{self.path}"}

    def close(self):
        pass


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    made = Folder(tmp_path / "store") if request.param == "folder" else S3()
    yield made
    made.close()


def storing(make_server, store):
    """A server that stores a checkpoint each second, running, with the definitions of `shop`."""
    server = make_server(env={**store.env(), "THYME_CHECKPOINTS__INTERVAL_S": "1"}).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    return server


def status(server):
    return server.status()["checkpoints"]


def wait_for(server, is_so, seconds=60):
    """The status of checkpoints once it is so."""
    until = time.monotonic() + seconds
    while not is_so(found := status(server)):
        assert time.monotonic() < until, found
        time.sleep(0.2)
    return found


def wait_saved(server):
    """Waits until a checkpoint holds the state as it is now."""
    time.sleep(2.5)
    return wait_for(server, lambda found: found["age_seconds"] is not None and found["age_seconds"] < 2.0)


def lose_state(server):
    shutil.rmtree(server.directory / "data" / "state")


def test_nothing_is_lost_when_it_is_killed_while_it_uploads_and_loses_its_state(make_server, store):
    server = storing(make_server, store)
    load = Load(server, random.Random(5), retry_for=120)
    for number in range(KILLS):
        # An upload is nearly always under way: one begins each second.
        load.pause(1.0, 3.0)
        server.kill()
        if number % 2 == 0:
            lose_state(server)
        server.start()
    load.pause(1.0, 1.0)
    load.finish(timeout=120)
    load.check()
    wait_saved(server)
    server.stop()
    lose_state(server)
    server.start()
    load.check()
    assert status(server)["restored"] is not None
    assert "restored:" in server.run("status").stdout
    found = server.data("rebuild")
    assert found["equal"] and found["state_digest"] == found["rebuilt_digest"], found
    assert {table["equal"] for table in found["tables"]} == {True}


def test_a_lost_directory_comes_back_but_for_the_log(make_server, store):
    server = storing(make_server, store)
    sent = rows(300, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    wait_saved(server)
    server.stop()
    lose_state(server)
    for file in (server.directory / "data").glob("catalog.db*"):
        file.unlink()
    server.start()
    check_rows(server, sent, position)
    server.stop()
    lose_state(server)
    shutil.rmtree(server.directory / "data" / "log")
    refused = server.serve_to_end()
    assert refused.returncode == 1
    assert "checkpoints of another log" in refused.stderr and "a folder or prefix of its own" in refused.stderr


def test_while_the_store_is_away_streaming_goes_on_and_the_age_grows(make_server):
    store = S3()
    try:
        server = storing(make_server, store)
        sent = rows(100, 1)
        with server.client() as client:
            position = client.log("Order", sent).position
        wait_saved(server)
        store.close()
        more = rows(100, 2, 100)
        with server.client() as client:
            position = client.log("Order", more).position
        check_rows(server, sent + more, position)
        found = wait_for(server, lambda found: found["trouble"] is not None, seconds=120)
        time.sleep(2)
        assert status(server)["age_seconds"] > found["age_seconds"] > 0
        assert "failing:" in server.run("status").stdout
        assert "no checkpoint was stored" in server.run("logs").stdout
        server.stop()
        # With its state it starts without the store; without, it says what to do.
        server.start()
        check_rows(server, sent + more, position)
        server.stop()
        lose_state(server)
        refused = server.serve_to_end()
        assert refused.returncode == 7, refused.stderr
        assert "make checkpoints.url reachable" in refused.stderr
    finally:
        store.close()


def test_a_damaged_checkpoint_gives_way_and_a_wrong_state_is_found(make_server, tmp_path):
    store = Folder(tmp_path / "store")
    server = storing(make_server, store)
    sent = rows(100, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    wait_saved(server)
    newest = max((store.path / "manifests").iterdir())
    body = newest.read_text(encoding="utf-8").strip().rsplit("\n", 1)[0]
    wrong = body.replace(json.loads(body)["digest"], "0" * 32)
    newest.write_text(f"{wrong}\n{hashlib.sha256(wrong.encode()).hexdigest()}\n", encoding="utf-8")
    found = wait_for(server, lambda found: found["diverged"] is not None)
    assert "one of them is wrong" in found["diverged"]
    assert "diverged:" in server.run("status").stdout
    assert server.run("rebuild").returncode == 0
    server.stop()
    # What it names is not what its files hold: the one before is taken, or the log.
    lose_state(server)
    server.start()
    check_rows(server, sent, position)
    unusable = status(server)["unusable"]
    assert len(unusable) == 1 and "does not hold the state that its manifest names" in unusable[0], unusable
    told = " ".join(server.run("status").stdout.split())
    assert "damaged: checkpoint" in told and "find what changed or deleted files under checkpoints.url" in told, told
    assert "find what changed or deleted files under checkpoints.url" in server.run("logs").stdout
