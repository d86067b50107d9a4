"""What an export says is what single questions say, bit for bit, and what a brute force says; whatever its size, the
server stays small."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight
import pytest

from by_hand import DAY, HOUR, ByHand
from harness import SOAK, Server
from shop import SOURCE, START, USERS, micros_text, rows
from surfaces import drop_spine, exchange, flight_info, pin, put, tickets
from thyme.times import as_micros

ORDERS = 6_000
# Users and one that has no order, all at one moment: one question of the batch.
ASKED = [*USERS, "nobody"]
MOMENTS = 24_400 if SOAK else 250
BY_HAND = 10_000 if SOAK else 1_000
SPINE_ROWS = 20_000_000 if SOAK else 400_000
LONG_FEATURES = ["n_1h", "total_1d", "most_1d"]
# A long spine asks the same again after so many rows.
REPEATS = 50_000
# As many exports as a server works on at once.
READERS = 8
MOST_BYTES = 1 << 30
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("proof")).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    server.orders = rows(ORDERS, 29)
    with server.client() as client:
        logged = client.log("Order", server.orders).position
        server.known_at = client.query_batch("UserFeatures", ASKED, at_least=logged).position
    yield server
    server.stop()


def moments(count: int, chance: random.Random, orders: list[dict[str, object]]) -> list[int]:
    """Any time, and when something comes or goes: an order's time, and when it leaves a window, to the microsecond."""
    end = START + ORDERS * 120_000_000
    found = []
    for _ in range(count):
        if chance.random() < 0.4:
            found.append(chance.randrange(START - DAY, end + 8 * DAY))
        else:
            of_order = as_micros(chance.choice(orders)["ts"])
            found.append(of_order + chance.choice([0, HOUR, DAY, 7 * DAY]) + chance.choice([-1, 0, 1]))
    return found


def bits(column: pa.ChunkedArray | pa.Array) -> list[pa.Array]:
    """Arrays that are equal where the column's values are, bit for bit: a float is compared as the integer it is."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(array.type):
        return [array.value_lengths(), *bits(array.flatten())]
    return [array.view(pa.int64()) if pa.types.is_float64(array.type) else array]


def test_an_export_says_what_single_moments_say(shop):
    chance = random.Random(31)
    times = moments(MOMENTS, chance, shop.orders)
    pairs = [(user, at) for at in times for user in ASKED]
    order = list(range(len(pairs)))
    chance.shuffle(order)
    spine = pa.table(
        {
            "user": [pairs[place][0] for place in order],
            "timestamp": pa.array([pairs[place][1] for place in order], TIME),
        }
    )
    with shop.client() as client:
        # Late for all of them: what was not known by then counts in neither.
        client.log("Order", [{**late, "order_id": late["order_id"] + ORDERS} for late in shop.orders[-50:]])
        known = {"known_at": shop.known_at}
        exported = client.query_offline("UserFeatures", spine, **known).to_arrow()
        texts = map(micros_text, times)
        online = [client.query_batch("UserFeatures", ASKED, ts=text, **known).to_arrow() for text in texts]
    assert exported.num_rows == len(pairs)
    expected = pa.concat_tables([answer.replace_schema_metadata(None) for answer in online]).take(order)
    names = [name for name in expected.column_names if name != "user"]
    assert exported.column_names == ["user", "timestamp", *names]
    assert exported.column("user").equals(expected.column("user"))
    for name in names:
        assert exported.column(name).type == expected.column(name).type, name
        for ours, theirs in zip(bits(exported.column(name)), bits(expected.column(name)), strict=True):
            assert ours.equals(theirs), name


def test_an_export_says_what_a_brute_force_says(shop):
    chance = random.Random(37)
    by_hand = ByHand(shop.orders)
    asked = [(chance.choice(ASKED), at) for at in moments(BY_HAND, chance, shop.orders)]
    spine = pa.table({"user": [user for user, _ in asked], "timestamp": pa.array([at for _, at in asked], TIME)})
    with shop.client() as client:
        table = client.query_offline("UserFeatures", spine, known_at=shop.known_at).to_arrow()
    exported = table.drop_columns(["user", "timestamp"]).to_pylist()
    filled = 0
    for (user, at), row in zip(asked, exported, strict=True):
        expected = by_hand.features(user, at)
        # `repr` tells -0.0 from 0.0 and an int from a float, and of two floats that differ in a bit it differs.
        assert repr(row) == repr(expected), f"{user} at {at}"
        filled += expected["n_1h"] > 0
    assert filled > BY_HAND // 20, "windows of an hour are not all empty"


def most_resident(server: Server) -> int:
    """Bytes, since the process began."""
    said = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", said)[1]) * 1024


def long_spine(total: int, at_once: int, text: str = "") -> pa.RecordBatchReader:
    """Keys in no order, one batch after another, never held as a whole."""
    schema = pa.schema({"user": pa.string(), "timestamp": TIME, "row": pa.int64(), "text": pa.string()})

    def batches() -> Iterator[pa.RecordBatch]:
        chance = random.Random(41)
        users = pa.array([chance.choice(ASKED) for _ in range(at_once)])
        times = pa.array(moments(at_once, chance, rows(ORDERS, 29)), TIME)
        for first in range(0, total, at_once):
            numbers = pa.array(range(first, first + at_once))
            yield pa.record_batch([users, times, numbers, pa.array([text] * at_once)], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def test_a_long_spine_leaves_the_server_small(shop):
    with shop.client() as client:
        asked = {"features": LONG_FEATURES, "stream": True, "progress": False}
        coming = client.query_offline("UserFeatures", long_spine(SPINE_ROWS, REPEATS), **asked).to_reader()
        next_row = 0
        for batch in coming:
            numbers = batch.column("row")
            assert numbers[0].as_py() == next_row and len(batch.schema) == 4 + 3
            next_row += batch.num_rows
    assert next_row == SPINE_ROWS
    assert most_resident(shop) < MOST_BYTES, most_resident(shop)


def test_an_uploaded_spine_leaves_the_server_small(shop):
    """Its parts, eight at a time, each read to its end; rows and features are those of one exchange."""
    told = put(shop, long_spine(SPINE_ROWS, REPEATS), spine="new")
    assert told["rows"] == SPINE_ROWS
    asked = {"featureset": "UserFeatures", "features": LONG_FEATURES}
    info = flight_info(shop, **asked, spine=told["spine"])
    expected = exchange(shop, long_spine(REPEATS, REPEATS).read_all(), **asked, pin=pin(info)).combine_chunks()
    assert pc.sum(expected["n_1h"]).as_py() > 0 and expected.num_rows == REPEATS
    parts = tickets(info)
    # The short form has few parts: each is read by several at once.
    readers = parts * -(-READERS // len(parts))
    with ThreadPoolExecutor(READERS) as workers:
        read = list(workers.map(lambda ticket: read_part(shop, ticket, expected), readers))
    assert read == read[: len(parts)] * (len(readers) // len(parts))
    next_row = 0
    for first, behind in read[: len(parts)]:
        assert first == next_row
        next_row = behind
    assert next_row == SPINE_ROWS
    assert most_resident(shop) < MOST_BYTES, most_resident(shop)
    drop_spine(shop, told["spine"])


def read_part(server: Server, ticket: flight.Ticket, expected: pa.Table) -> tuple[int, int]:
    """The number of its first row, and of the one behind its last; all in between came, with the features expected."""
    first = next_row = None
    with flight.connect(f"grpc://{server.queries}") as client:
        for chunk in client.do_get(ticket):
            if chunk.data is None or not chunk.data.num_rows:  # the last message is a summary
                continue
            numbers = chunk.data.column("row")
            first = numbers[0].as_py() if first is None else first
            next_row = first if next_row is None else next_row
            assert numbers.equals(pa.array(range(next_row, next_row + len(numbers))))
            next_row += len(numbers)
            same = expected.take(pc.subtract(numbers, pc.multiply(pc.divide(numbers, REPEATS), REPEATS)))
            for name in LONG_FEATURES:
                for ours, theirs in zip(bits(chunk.data.column(name)), bits(same[name]), strict=True):
                    assert ours.equals(theirs), f"{name} from row {numbers[0]}"
    return first, next_row


def test_who_takes_nothing_is_not_held_in_memory(shop):
    """The rows of its spine wait at the client; others are answered; and it may begin to take them at any time."""
    total, text = 400_000, "x" * 1_000
    written = 0
    spine = long_spine(total, 5_000, text)
    command = flight.FlightDescriptor.for_command(b'{"featureset": "UserFeatures", "features": ["n_all"]}')
    with flight.connect(f"grpc://{shop.queries}") as client:
        writer, reader = client.do_exchange(command)

        def write() -> None:
            nonlocal written
            writer.begin(spine.schema)
            for batch in spine:
                writer.write_batch(batch)
                written += batch.num_rows
            writer.done_writing()

        writing = threading.Thread(target=write)
        writing.start()
        stands, since = -1, time.monotonic()
        while time.monotonic() - since < 3:
            if stands != written:
                stands, since = written, time.monotonic()
            time.sleep(0.1)
        assert writing.is_alive() and 0 < written < total, "the server takes no more than it has room for"
        assert most_resident(shop) < MOST_BYTES, most_resident(shop)
        other = pa.table({"user": ["user_1"], "timestamp": pa.array([START], TIME)})
        assert exchange(shop, other, featureset="UserFeatures").num_rows == 1
        taken = sum(chunk.data.num_rows for chunk in reader if chunk.data is not None)
        writing.join()
        assert taken == written == total
        writer.close()
