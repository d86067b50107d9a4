"""Changes and rows of a real server: beside exports and single answers, over a restart, from the command, in parts."""

from __future__ import annotations

import random
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from harness import SOAK
from shop import USERS
from shop import rows as orders
from test_export_parts import content, killed_until_done
from thyme.parts import read_manifest
from thyme.times import as_micros

# The command, which takes its time behind each part.
COMMAND = """
import time
from thyme.cli import main
from thyme.parts.folder import Folder
append = Folder.append

def slowly(self, *part):
    append(self, *part)
    time.sleep(0.1)

Folder.append = slowly
main()
"""


def until(answer):
    return answer.to_arrow().schema.metadata[b"thyme.until"].decode()


def bare(table):
    return table.replace_schema_metadata(None)


def test_changes_are_what_exports_and_single_answers_say(shop):
    with shop.client() as client:
        changes = client.changes("UserFeatures", statuses=True)
        assert len(changes) > 350, "200 orders as they come in, and most as they leave an hour"
        spine = changes.to_arrow().select(["user", "timestamp"])
        joined = client.query_offline("UserFeatures", spine, statuses=True, pin=changes.pin)
        assert joined.to_dicts() == changes.to_dicts()
        of_user = {user: [row for row in changes if row["user"] == user] for user in USERS}
        known = [user for user in USERS if of_user[user]]
        choose = random.Random(7)
        asked = 0
        for _ in range(200):
            of_one = of_user[choose.choice(known)]
            row = choose.randrange(len(of_one))
            last = row + 1 == len(of_one)
            span = timedelta(0) if last else of_one[row + 1]["timestamp"] - of_one[row]["timestamp"]
            at = of_one[row]["timestamp"] + choose.random() * (span - timedelta(microseconds=1 if span else 0))
            single = client.query("UserFeatures", of_one[row]["user"], ts=at)
            told = single.to_dicts()[0]
            assert {name: of_one[row][name] for name in told if name != "user"} == {
                name: value for name, value in told.items() if name != "user"
            }
            asked += not last
        assert asked > 100


def test_rows_are_what_was_sent(shop):
    with shop.client() as client:
        sent = {order["order_id"]: order for order in orders(200, 1)}
        found = client.rows("Order").to_dicts()
        assert len(found) == len(sent)
        for row in found:
            order = sent.pop(row["order_id"])
            assert as_micros(row.pop("ts")) == as_micros(order.pop("ts"))
            assert row == order
        middle = orders(200, 1)[100]["ts"]
        early, late = client.rows("Order", until=middle), client.rows("Order", since=middle)
        assert (len(early) + len(late), 0 < len(late) < 200) == (200, True)


def test_a_restart_in_the_midst_changes_nothing(shop):
    with shop.client(retry_for=60) as client:
        whole = client.changes("UserFeatures")
        going_on = client.changes("UserFeatures", until=until(whole), pin=whole.pin, stream=True).to_reader()
        first = going_on.read_next_batch()
        shop.stop()
        shop.lose_state()
        shop.start()
        both = pa.Table.from_batches([first, *going_on])
        assert bare(both).equals(bare(whole.to_arrow()))


def test_the_command_writes_what_the_client_gets(shop):
    with shop.client() as client:
        changes = client.changes("UserFeatures", features=["n_all"])
        found = client.rows("Order").to_arrow()
    asked = ("--features", "n_all", "--until", until(changes))
    done = shop.run("query-offline", "UserFeatures", *asked, "-o", "changes.parquet")
    assert done.returncode == 0, done.stderr
    assert bare(pq.read_table(shop.directory / "changes.parquet")).equals(bare(changes.to_arrow()))
    done = shop.run("query-offline", "features:Order", "-o", "orders.parquet")
    assert done.returncode == 0, done.stderr
    assert f"{found.num_rows} rows before" in done.stderr
    assert bare(pq.read_table(shop.directory / "orders.parquet")).equals(bare(found))
    done = shop.run("query-offline", "UserStats", "-o", "stats.parquet")
    assert (done.returncode, "ask for the changes of a featureset" in done.stderr) == (1, True), done.stderr
    assert not (shop.directory / "stats.parquet").exists()


def rows_of(out):
    """In the order of the parts."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(out.glob("part-*.parquet")))


def test_parts_are_the_rows_of_one_answer(shop, tmp_path):
    for name, statuses in (("UserFeatures", ("--statuses",)), ("Order", ())):
        out = tmp_path / name
        done = shop.run("query-offline", name, *statuses, "-o", str(out))
        assert done.returncode == 0, done.stderr
        manifest = read_manifest(f"{out}/_manifest.json")
        assert (len(manifest.parts), manifest.state) == (16, "whole")
        stretch = {"until": manifest.stretch["until"], "pin": manifest.pin}
        with shop.client() as client:
            whole = client.changes(name, statuses=True, **stretch) if statuses else client.rows(name, **stretch)
        whole = bare(whole.to_arrow())
        assert bare(rows_of(out)).equals(whole) and manifest.rows == whole.num_rows > 100
        counted = {
            feature: {
                "nulls": whole[feature].null_count,
                "defaults": whole[f"{feature}__status"].to_pylist().count("DEFAULT"),
                "errors": whole[f"{feature}__status"].to_pylist().count("ERROR"),
            }
            for feature in whole.column_names
            if f"{feature}__status" in whole.column_names
        }
        assert manifest.features == counted and bool(counted) == bool(statuses)
        done = shop.run("query-offline", name, *statuses, "-o", str(out))
        assert "already there" in done.stderr, done.stderr


def test_parts_of_a_command_that_is_killed(shop, tmp_path):
    out = tmp_path / "out"
    asked = ("query-offline", "UserFeatures", "--features", "n_all,total_1d,last_city,share", "-o", str(out))
    killed_until_done(COMMAND, shop, asked, out, most=10 if SOAK else 2, rest=0.2)
    manifest = read_manifest(f"{out}/_manifest.json")
    done = shop.run("query-offline", "--manifest", f"{out}/_manifest.json", "-o", f"{tmp_path}/calm/")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "calm") == content(out)
    with shop.client() as client:
        stretch = {"features": manifest.command["features"], "until": manifest.stretch["until"]}
        pinned = client.changes("UserFeatures", **stretch, pin=manifest.pin).to_arrow()
        now = client.changes("UserFeatures", **stretch).to_arrow()
    assert bare(rows_of(out)).equals(bare(pinned))
    assert not bare(now).equals(bare(pinned)), "what came since counts without the pin"
    assert not list(out.glob(".*"))
