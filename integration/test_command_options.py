"""What options of commands do on a real server: a class as REF, statuses, pages of runs, events, a format, a clock."""

from __future__ import annotations

import json
import os
import re
import signal

import pyarrow as pa

from commands import Command
from harness import wait_until
from shop import SOURCE

USER = "user_1"
SPINE = [
    {"user": USER, "timestamp": "2026-01-01T00:00:00Z"},
    {"user": "nobody", "timestamp": "2026-01-01T00:00:00Z"},
    {"user": USER, "timestamp": None},
]


def joined(shop, name, *arguments):
    spine = "".join(json.dumps(row) + "\n" for row in SPINE)
    asked = ("query-offline", *arguments, "--input", "-", "--format", "jsonl", "-o", name)
    done = shop.run(*asked, stdin=spine)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (shop.directory / name).read_text().splitlines()]


def test_a_class_of_a_module_names_what_is_asked_for(shop):
    asked = ("-e", USER, "--at", "2026-01-01T00:00:00Z")
    for command, member, name in (
        ("query", "features", "UserFeatures"),
        ("lookup", "features", "UserStats"),
        ("explain", "explanations", "UserFeatures"),
        ("explain", "explanations", "UserStats"),
    ):
        by_class = shop.data(command, f"features:{name}", *asked)
        assert by_class[member] == shop.data(command, name, *asked)[member], (command, name)
        assert by_class[member]
    rows = joined(shop, "by_class.jsonl", "features:UserFeatures")
    assert rows == joined(shop, "by_name.jsonl", "UserFeatures")
    assert rows[0]["n_all"] == shop.counted[USER]


def test_a_class_that_is_not_there_is_said_of_every_command(shop):
    for command in ("query", "lookup", "explain"):
        done = shop.run(command, "features:UserFeatuers", "-e", USER)
        assert done.returncode == 5, done.stderr
        assert "features has no class 'UserFeatuers'" in done.stderr
        assert "did you mean 'UserFeatures'" in done.stderr
    done = shop.run("query-offline", "faetures:UserFeatures", "--input", "-", "--format", "jsonl", "-o", "-")
    assert done.returncode == 4, done.stderr
    assert "cannot import faetures" in done.stderr


def test_statuses_are_columns_of_an_export(shop):
    rows = joined(shop, "statuses.jsonl", "UserFeatures", "--features", "n_all,last_city", "--statuses")
    assert [row["n_all__status"] for row in rows] == ["OK", "DEFAULT", "ERROR"]
    assert [row["n_all"] for row in rows] == [shop.counted[USER], 0, None]
    assert [name for name in rows[0] if name.endswith("__status")] == ["n_all__status", "last_city__status"]
    without = joined(shop, "without.jsonl", "UserFeatures", "--features", "n_all,last_city")
    assert [{name: row[name] for name in row if not name.endswith("__status")} for row in rows] == without


def test_explain_shows_so_many_events(shop):
    asked = ("explain", "UserFeatures", "-e", USER, "--features", "n_all")
    count = shop.counted[USER]
    assert count > 2
    some = explained(shop.data(*asked, "--events", "2"))
    assert (len(some["events"]), some["truncated"], some["value"]) == (2, True, count)
    all_of_them = explained(shop.data(*asked, "--events", str(count)))
    assert (len(all_of_them["events"]), all_of_them["truncated"]) == (count, False)
    assert all_of_them["event_count"] == count
    newest = sorted(event["event_time"] for event in all_of_them["events"])[-2:]
    assert sorted(event["event_time"] for event in some["events"]) == newest
    shown = shop.run(*asked, "--events", "2").stdout
    assert shown.count(" offset ") == 2
    assert "… and older ones; --events shows more" in shown


def explained(found):
    return next(explanation for explanation in found["explanations"] if explanation["name"] == "n_all")


def test_runs_are_listed_by_featureset_and_page_by_page(shop):
    with shop.client() as client:
        asked = [client.query("UserFeatures", f"user_{number}", features=["n_1h"]).query_run_id for number in range(5)]
        between = client.lookup("UserStats", USER).query_run_id
    found = []
    wait_until(lambda: found.append(shop.data("runs", "list", "-n", "50")) or between in ids(found[-1]))
    assert set(asked) <= set(ids(found[-1]))

    of_rows = shop.data("runs", "list", "--featureset", "UserStats")
    assert between in ids(of_rows)
    assert {run["featureset"] for run in of_rows["runs"]} == {"UserStats"}
    of_features = shop.data("runs", "list", "--featureset", "UserFeatures", "-n", "5")
    assert ids(of_features) == asked[::-1], "newest first"

    pages, more = [], []
    for size in (2, 2, 1):
        page = shop.data("runs", "list", "--featureset", "UserFeatures", "-n", str(size), *more)
        assert len(page["runs"]) == size
        pages += ids(page)
        more = ["--cursor", page["next_cursor"]]
    assert pages == asked[::-1]
    # A table says how to go on, and where it has been gone on from it begins with the next.
    done = shop.run("runs", "list", "--featureset", "UserFeatures", "-n", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == asked[:2:-1]
    cursor = re.search(r"more: --cursor (\S+)", done.stderr)[1]
    done = shop.run("runs", "list", "--featureset", "UserFeatures", "-n", "1", "--cursor", cursor)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [asked[2]]
    done = shop.run("runs", "list", "--cursor", "somewhere")
    assert done.returncode == 1
    assert "not a cursor: 'somewhere'" in done.stderr and "'next_cursor' of an earlier answer" in done.stderr


def ids(found):
    return [run["id"] for run in found["runs"]]


def test_an_answer_is_written_as_arrow(shop):
    asked = ("query", "UserFeatures", "-e", USER, "-e", "nobody", "--features", "n_all,newest", "-f", "arrow")
    done = shop.run(*asked, "-o", "answer.bin")
    assert done.returncode == 0, done.stderr
    with pa.ipc.open_stream((shop.directory / "answer.bin").read_bytes()) as reader:
        table = reader.read_all()
    assert table.schema.names == ["user", "n_all", "newest"]
    assert (table.schema.field("n_all").type, table.schema.field("newest").type) == (pa.int64(), pa.list_(pa.float64()))
    assert table["n_all"].to_pylist() == [shop.counted[USER], 0]
    assert table.schema.metadata[b"thyme.query_run_id"].decode() in done.stderr


def test_logs_are_followed(server):
    assert server.commit(SOURCE).returncode == 0
    out = server.directory / "followed"
    with open(out, "wb") as file, open(os.devnull, "rb") as nothing:
        command = Command(
            ("logs", "--follow", "--json"),
            cwd=server.directory,
            env=server.env,
            stdin=nothing,
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(lambda: out.read_text().endswith("}\n"))
        before = events(out)
        # What comes after it has begun.
        assert (
            server.commit(
                SOURCE.replace('window="1h"', 'window="2h"').replace(
                    "    @pipeline(version=1)", "    @pipeline(version=2)"
                ),
                "again.py",
            ).returncode
            == 0
        )
        wait_until(lambda: len(events(out)) > len(before))
        assert command.poll() is None, "it goes on"
    finally:
        command.send_signal(signal.SIGINT)
        command.wait(timeout=60)
    found = events(out)
    assert len({event["id"] for event in found}) == len(found), "each is said once"
    assert [event["created_at"] for event in found] == sorted(event["created_at"] for event in found)
    # Without it the command ends by itself, with the same.
    listed = [json.loads(line)["id"] for line in server.run("logs", "--json").stdout.splitlines()]
    assert {event["id"] for event in found} <= set(listed)


def events(out):
    whole = out.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def test_the_clock_of_the_command_line_wins(make_server):
    greatest = "2031-05-05T05:05:05Z"
    row = {"order_id": 1, "ts": greatest, "user": "u", "amount": 1.0, "city": None}
    server = make_server(clock="wall").start("--clock", "event")
    assert server.commit(SOURCE).returncode == 0
    with server.client() as client:
        position = client.log("Order", [row]).position
        assert client.query("UserFeatures", "u", at_least=position).to_dicts()[0]["n_1h"] == 1
    status = server.data("status")
    assert (status["clock"], status["now"]) == ("event", greatest)

    other = make_server("other", clock="event").start("--clock", "wall")
    status = other.data("status")
    assert status["clock"] == "wall"
    assert status["now"] < greatest and status["now"] >= status["started_at"]
    refused = make_server("third").serve_to_end("--clock", "sundial")
    assert refused.returncode != 0
    assert "sundial" in refused.stderr and "wall" in refused.stderr
