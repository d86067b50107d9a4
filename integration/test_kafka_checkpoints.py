"""A machine that is gone, beside a Kafka log: another one begins with the newest checkpoint and the log."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
import urllib.request

from harness import wait_until
from load import Load, check_rows
from shop import SOURCE
from surfaces import share, slices_of
from test_emit import EMITTING
from test_kafka_nodes import both, is_serving, owner_of


def test_another_machine_goes_on_where_the_first_one_ended(broker, make_server, tmp_path):
    env = {
        **broker.log("machine"),
        "THYME_CHECKPOINTS__URL": f"file://{tmp_path / 'store'}",
        "THYME_CHECKPOINTS__INTERVAL_S": "1",
    }
    server = make_server(env=env).start()
    assert server.commit(SOURCE).returncode == 0
    load = Load(server, random.Random(3), retry_for=180)
    for _ in range(2):
        load.pause(3.0, 4.0)
        server.kill()
        # State and catalog: all that there was.
        shutil.rmtree(server.directory / "data")
        server.start()
        # Its name is a new one, so that it owns the work only when the broker has given up the old one.
        server.wait_ready()
        assert server.status()["checkpoints"]["restored"] is not None
    load.pause(1.0, 1.0)
    load.finish(timeout=300)
    load.check()
    time.sleep(3)
    assert server.data("rebuild")["equal"]
    server.stop()
    # Beside another prefix the checkpoints are of another log.
    shutil.rmtree(server.directory / "data")
    server.env |= broker.log("other")
    refused = server.serve_to_end()
    assert refused.returncode == 1 and "checkpoints of another log" in refused.stderr, refused.stderr
    server.stop()


def test_the_slices_of_a_machine_that_is_gone_are_restored_on_another(broker, postgres, make_server, tmp_path):
    """Under load, and back again: each machine keeps the slices that it owns, and takes the others from checkpoints."""
    env = {
        **broker.log("moved", 4),
        "THYME_CATALOG__URL": postgres.fresh(),
        "THYME_CHECKPOINTS__URL": f"file://{tmp_path / 'store'}",
        "THYME_CHECKPOINTS__INTERVAL_S": "1",
    }
    servers = [make_server(name, env=env).start() for name in ("first", "second")]
    wait_until(lambda: share(servers))
    assert owner_of(servers).commit(SOURCE).returncode == 0
    wait_until(lambda: all(map(is_serving, servers)) and all(len(held(server)) == 2 for server in servers))
    load = Load(servers[1], random.Random(4), retry_for=180)
    for lost, left in (servers, servers[::-1]):
        load.pause(3.0, 4.0)
        before = len(restored(left))
        lost.kill()
        shutil.rmtree(lost.directory / "data")
        # What it owned was not on the other's disk, and is answered for there.
        wait_until(lambda left=left: slices_of(left) == 4 and len(held(left)) == 4)
        wait_until(lambda left=left, before=before: len(restored(left)) >= before + 2)
        load.pause(1.0, 2.0)
        lost.start()
        wait_until(lambda: share(servers) and all(len(held(server)) == 2 for server in servers))
    load.finish(timeout=300)
    for server in servers:
        check_rows(server, load.sent, load.position)
        assert server.data("rebuild")["equal"]


def held(server) -> list[int]:
    return server.status()["held_slices"]


def restored(server) -> list[str]:
    """What was restored from checkpoints, on any server."""
    with server.client() as client:
        events = client.events(500)["events"]
    return [event["message"] for event in events if event["event_type"] == "checkpoint.restored"]


@both
def test_a_follower_is_compared_with_the_checkpoints_of_the_owner(broker, postgres, make_server, tmp_path, slices):
    store = tmp_path / "store"
    env = {
        **broker.log(f"compared{slices}", slices),
        "THYME_CATALOG__URL": postgres.fresh(),
        "THYME_CHECKPOINTS__URL": f"file://{store}",
        "THYME_CHECKPOINTS__INTERVAL_S": "1",
    }

    def compared() -> int:
        found = re.search(r"^thyme_checkpoint_comparisons_total (\d+)", metrics(follower), re.MULTILINE)
        return int(found[1]) if found else 0

    # They share the slices. The replica follows all of them; of a single slice the second server does, too.
    servers = [make_server(name, env=env).start() for name in ("first", "second")]
    follower = make_server("replica", env=env).start("--role", "query")
    wait_until(lambda: share(servers))
    owner = owner_of(servers)
    (other,) = (server for server in servers if server is not owner)
    assert owner.commit(EMITTING).returncode == 0
    # While rows come in, it is never where a checkpoint was taken.
    load = Load(owner, random.Random(7), retry_for=180, most=60, rest_seconds=0.05)
    wait_until(lambda: compared() > slices)
    first = compared()
    wait_until(lambda: compared() > first + slices)
    assert "thyme_checkpoint_divergences_total" not in metrics(follower)
    if slices == 1:
        wait_until(lambda: other.status()["checkpoints"]["compared"] is not None)
        assert "compared:" in other.run("status").stdout
    load.finish(timeout=300)
    load.check()

    # Some that say of the follower's places what the follower's states are not.
    ended = time.time()
    wait_until(lambda: all(server.status()["checkpoints"]["age_seconds"] < time.time() - ended for server in servers))
    for server in (follower, *servers):
        server.stop()
    folders = [store] if slices == 1 else [store / f"slice-{slice}-of-{slices}" for slice in range(slices)]
    for folder in folders:
        newest = max((folder / "manifests").iterdir())
        body = newest.read_text(encoding="utf-8").strip().rsplit("\n", 1)[0]
        wrong = body.replace(json.loads(body)["digest"], "0" * 32)
        newest.write_text(f"{wrong}\n{hashlib.sha256(wrong.encode()).hexdigest()}\n", encoding="utf-8")
    follower.start("--role", "query")
    wait_until(lambda: "thyme_checkpoint_divergences_total" in metrics(follower))


def metrics(server) -> str:
    with urllib.request.urlopen(f"http://{server.queries}/metrics", timeout=30) as answer:
        return answer.read().decode()
