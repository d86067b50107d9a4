"""What a server finds where it should keep its data: a full disk, a read-only one, another server, another version.
Nothing that was acknowledged is lost, and the message says what to do."""

from __future__ import annotations

import socket
import sqlite3
from collections import Counter

import pytest

from harness import Server
from shop import SOURCE, USERS, rows
from surfaces import http
from thyme import errors


def test_a_full_disk_refuses_rows_and_loses_none(server_inside, mounts):
    """In mid-stream the disk fills: refused with a clear error, reads go on; with space again the server goes on by
    itself, and what was refused is sent again under its ids. All rows count, each once, also after a restart."""
    server = server_inside
    # RocksDB takes a write up again by itself only where as much is free as its largest write buffer, 32 MB.
    disk = mounts.disk(server.directory / "data", 160)
    server.start()
    assert server.commit(SOURCE).returncode == 0
    calls = [rows(500, number, number * 500) for number in range(200)]
    ids = [[str(order["order_id"]) for order in call] for call in calls]
    with server.client(retry_for=0) as client:
        first = client.log("Order", calls[0], event_ids=ids[0])
        before = client.query_batch("UserFeatures", USERS, at_least=first.position).to_dicts()
        disk.fill()
        sent, refusal = 1, None
        for call, its_ids in zip(calls[1:], ids[1:], strict=True):
            try:
                client.log("Order", call, event_ids=its_ids)
            except errors.ThymeError as error:
                refusal = error
                break
            sent += 1
        assert refusal is not None, "the disk never filled"
        assert refusal.code == "resource_exhausted", refusal
        assert "no space" in str(refusal).lower() or "full" in str(refusal).lower(), refusal
        assert refusal.hint, refusal
        code = 200
        while code == 200:
            # What was cut off again may leave room for a few more.
            body = {"dataset": "Order", "events": calls[sent], "event_ids": ids[sent]}
            code, problem = http(f"http://{server.control}/api/v1/log", body)
            sent += code == 200
        assert (code, problem["code"]) == (429, "resource_exhausted"), problem
        done = server.run("ingest", "Order", "-", stdin="{}\n")
        after = client.query_batch("UserFeatures", USERS).to_dicts()
        assert all(now["n_all"] >= was["n_all"] for was, now in zip(before, after, strict=True)), "reads go on"
        disk.free()
        assert done.returncode == 1 and "missing or null" in done.stderr, done
    with server.client(retry_for=60) as client:
        again = range(sent, sent + 2)
        last = [client.log("Order", calls[number], event_ids=ids[number]) for number in again][-1]
        expected = Counter(order["user"] for call in calls[: sent + 2] for order in call)
        assert _counts(client, last.position) == expected
    server.kill()
    server.start()
    with server.client() as client:
        assert _counts(client, last.position) == expected


def _counts(client, position):
    answers = client.query_batch("UserFeatures", USERS, at_least=position).to_dicts()
    return {user: answer["n_all"] for user, answer in zip(USERS, answers, strict=True) if answer["n_all"]}


@pytest.mark.parametrize("has_data", [False, True])
def test_a_read_only_data_directory_is_refused_and_left_as_it_was(server_inside, mounts, has_data):
    server = server_inside
    data = server.directory / "data"
    data.mkdir()
    if has_data:
        server.start()
        assert server.commit(SOURCE).returncode == 0
        with server.client() as client:
            position = client.log("Order", rows(100, 1)).position
            before = _counts(client, position)
        server.kill()
    files = {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}
    mounts.run("mount", "--bind", str(data), str(data))
    mounts.run("mount", "-o", "remount,bind,ro", str(data))
    done = server.serve_to_end()
    assert done.returncode == 1, done
    assert "cannot use the data directory" in done.stderr and str(data) in done.stderr, done.stderr
    assert "Read-only file system" in done.stderr, done.stderr
    assert "make it writable for this user, or choose another with --data-dir" in done.stderr
    assert "Traceback" not in done.stderr and "panicked" not in done.stderr
    assert {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()} == files
    mounts.run("umount", str(data))
    server.start()
    if has_data:
        with server.client() as client:
            assert _counts(client, position) == before


def test_a_second_server_on_the_same_data_is_refused(shop):
    other = Server(shop.directory)
    done = other.serve_to_end()
    assert done.returncode == 1
    assert "data" in done.stderr and "another" in done.stderr.lower(), done.stderr
    assert str(shop.process.pid) in done.stderr, "it says which process"
    with shop.client() as client:
        assert client.query("UserFeatures", "user_1").to_dicts()[0]["n_all"] == shop.counted["user_1"]


def test_a_port_in_use_is_named(make_server):
    server = make_server()
    for which in ("control", "queries"):
        free = getattr(server, which)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            setattr(server, which, f"127.0.0.1:{taken.getsockname()[1]}")
            done = server.serve_to_end()
            assert done.returncode != 0
            assert getattr(server, which) in done.stderr and "in use" in done.stderr, done.stderr
            assert {"control": "control_addr", "queries": "query_addr"}[which] in done.stderr.replace("-", "_")
        setattr(server, which, free)
    server.start()


def test_an_address_beyond_loopback_is_refused(make_server):
    server = make_server()
    server.control = "0.0.0.0:18080"
    done = server.serve_to_end()
    assert done.returncode != 0
    assert "loopback" in done.stderr, done.stderr


def test_an_unknown_configuration_key_is_named(make_server):
    server = make_server(env={"THYME_SERVER__CLOK": "wall"})
    done = server.serve_to_end()
    assert done.returncode != 0
    assert "clok" in done.stderr.lower() and "clock" in done.stderr, done.stderr


def test_a_data_directory_of_another_version_is_refused(make_server):
    """Each part has a version of its own. Refused is refused: afterwards everything is still there."""
    server = make_server().start()
    assert server.commit(SOURCE).returncode == 0
    with server.client() as client:
        position = client.log("Order", rows(100, 1)).position
        before = _counts(client, position)
    server.stop()
    data = server.directory / "data"
    journal = sorted((data / "log").glob("*.journal"))[0]
    marker, catalog = data / "FORMAT", data / "catalog.db"
    whole = {path: path.read_bytes() for path in (journal, marker)}
    with sqlite3.connect(catalog) as connection:
        (version,) = connection.execute("pragma user_version").fetchone()

    def refused(says, the_way_out):
        done = server.serve_to_end()
        assert done.returncode == 1, done
        assert says in done.stderr and "panicked" not in done.stderr, done.stderr
        assert f"{the_way_out}, or " in done.stderr and "another" in done.stderr, done.stderr

    journal.write_bytes(whole[journal][:8] + bytes([250]) + whole[journal][9:])
    refused("version 250", "use the build that wrote it")
    journal.write_bytes(whole[journal])
    marker.write_text("77")
    refused("77", "run the version of thyme that wrote it")
    marker.write_bytes(whole[marker])
    with sqlite3.connect(catalog) as connection:
        connection.execute("pragma user_version = 66")
    refused("66", "run the version of thyme that wrote this data directory")
    with sqlite3.connect(catalog) as connection:
        connection.execute(f"pragma user_version = {version}")
    server.start()
    with server.client() as client:
        assert _counts(client, position) == before


def test_a_data_directory_that_is_none_is_refused(make_server):
    server = make_server()
    (server.directory / "data").write_text("a file")
    done = server.serve_to_end()
    assert done.returncode == 1
    assert "data directory" in done.stderr and "--data-dir" in done.stderr, done.stderr
    assert (server.directory / "data").read_text() == "a file"
