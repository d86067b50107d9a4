"""Spines that are put before they are joined, by a stock Flight client: DoPut, GetFlightInfo, DoGet, drop_spine."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server, wait_until
from shop import SOURCE, START, USERS, rows
from surfaces import drop_spine, exchange, flight_info, pin, put, tickets

PART = 262_144
#: Without what Python computes, so that hundreds of thousands of rows take a second.
FEATURES = ["n_all", "total_1d", "last_city", "newest"]
#: Sends a part of a spine, and then nothing more.
STOPS = """
import json, sys, time
import pyarrow as pa, pyarrow.flight as flight
half = pa.table({"user": ["a"] * 1000})
descriptor = flight.FlightDescriptor.for_command(json.dumps({"spine": "new"}))
writer, _ = flight.connect(sys.argv[1]).do_put(descriptor, half.schema)
writer.write_table(half)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("spines")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        send(client, rows(2000, 1))
    yield running
    running.stop()


def send(client, orders):
    """When it returns, questions see the rows."""
    position = client.log("Order", orders).position
    client.query("UserFeatures", "user_1", at_least=position)


def spine(count: int) -> pa.Table:
    """Of users in no order, some unknown, with a passenger."""
    users = pa.array([USERS[row * 31 % 40] if row % 50 else "nobody" for row in range(count)])
    times = pa.array([START + row * 104_729_000 % 300_000_000_000 for row in range(count)], pa.timestamp("us"))
    return pa.table({"user": users.dictionary_encode(), "timestamp": times, "row": range(count)})


def info(server, spine_id, **command):
    command = {"featureset": "UserFeatures", "features": FEATURES, "statuses": True, "spine": spine_id, **command}
    return flight_info(server, **command)


def get(server, ticket):
    """The part, in the batches that came."""
    with flight.connect(f"grpc://{server.queries}") as client:
        return client.do_get(ticket).read_all()


def on_disk(server):
    return sorted(path.name for path in (server.directory / "data" / "spines").iterdir())


def plain(table: pa.Table) -> pa.Table:
    """Without the dictionary, which each batch may have of its own."""
    return table.set_column(0, "user", table["user"].cast(pa.string()))


def same(one: pa.Table, other: pa.Table) -> bool:
    """Down to the batches and the metadata."""
    return one.schema.equals(other.schema, check_metadata=True) and one.to_batches() == other.to_batches()


def test_parts_are_read_side_by_side_and_again(server):
    whole = spine(2 * PART + 1)
    told = put(server, whole, spine="new")
    assert told["rows"] == whole.num_rows
    assert on_disk(server) == [told["spine"]]
    parts = server.directory / "data" / "spines" / told["spine"]
    assert [path.name for path in sorted(parts.iterdir())] == [f"part-0000{part}.arrow" for part in range(3)]
    assert stat.S_IMODE(parts.parent.stat().st_mode) == 0o700
    parted = info(server, told["spine"])
    assert (parted.total_records, len(parted.endpoints)) == (whole.num_rows, 3)
    assert parted.ordered
    first = [get(server, ticket) for ticket in tickets(parted)]
    assert [part.num_rows for part in first] == [PART, PART, 1]
    # The same batches each time, whatever came since, and with all readers at once.
    with server.client() as client:
        send(client, rows(50, 2, first_id=1990))
    with ThreadPoolExecutor(6) as workers:
        again = list(workers.map(lambda ticket: get(server, ticket), tickets(parted) * 2))
    assert all(same(part, first[number % 3]) for number, part in enumerate(again))
    command = {"featureset": "UserFeatures", "features": FEATURES, "statuses": True}
    at_once = exchange(server, whole, **command, pin=pin(parted))
    assert plain(pa.concat_tables(first)).equals(plain(at_once))
    now = exchange(server, whole, **command)
    assert not now["n_all"].equals(at_once["n_all"]), "what came since counts without the pin"
    drop_spine(server, told["spine"])
    assert on_disk(server) == []
    with pytest.raises(KeyError, match=f"no spine {told['spine']} here; it was dropped, has expired or is on another"):
        get(server, tickets(parted)[0])


def test_after_a_restart_the_spine_is_put_again(server):
    whole = spine(1000)
    told = put(server, whole, spine="new")
    before = info(server, told["spine"])
    joined = get(server, tickets(before)[0])
    server.stop()
    server.start()
    server.wait_ready()
    assert on_disk(server) == []
    with pytest.raises(KeyError, match=r"put it again \(DoPut\), then ask GetFlightInfo with the same pin"):
        get(server, tickets(before)[0])
    again = put(server, whole, spine="new")
    assert again["spine"] != told["spine"]
    with server.client(retry_for=60) as client:
        send(client, rows(50, 3, first_id=2040))
    assert same(get(server, tickets(info(server, again["spine"], pin=pin(before)))[0]), joined)
    drop_spine(server, again["spine"])


def test_erased_keys_end_what_stands_on_them(server):
    told = put(server, spine(1000), spine="new")
    parted = info(server, told["spine"])
    get(server, tickets(parted)[0])
    with server.client() as client:
        assert client.erase("Order", [17]).pending
        wait_until(lambda: not client.erase("Order", []).pending)
    # A table under another key is built anew without what was erased.
    with pytest.raises(pa.ArrowException, match="the pin does not have the table of 'UserStats.compute' as it is now"):
        get(server, tickets(parted)[0])
    get(server, tickets(info(server, told["spine"]))[0])
    drop_spine(server, told["spine"])


def test_a_client_that_dies_leaves_nothing(server):
    client = subprocess.Popen([sys.executable, "-c", STOPS, f"grpc://{server.queries}"])
    wait_until(lambda: len(on_disk(server)) == 1)
    client.kill()
    client.wait()
    wait_until(lambda: on_disk(server) == [])


def test_a_disk_that_is_nearly_full_takes_no_spine(server_inside, mounts):
    disk = mounts.disk(server_inside.directory / "data", 160)
    server_inside.start()
    assert server_inside.commit(SOURCE).returncode == 0
    with pytest.raises(Exception, match="the disk of this node has .* MiB free, and 1.0 GiB stay free"):
        put(server_inside, spine(10), spine="new")
    assert list((disk.seen / "spines").iterdir()) == []
    with server_inside.client() as client:
        send(client, rows(100, 1))
    joined = exchange(server_inside, spine(10), featureset="UserFeatures", features=FEATURES)
    assert joined.num_rows == 10, "which keeps nothing"
