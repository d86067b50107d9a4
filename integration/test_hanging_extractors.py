"""Extractors that were quick and then hang: those run on the threads that serve requests, which must not be missed."""

from __future__ import annotations

import concurrent.futures
import os
import time

import pytest

SOURCE = """
import ctypes
import os
import threading

from thyme import extractor, extractor_inputs, extractor_outputs, feature, featureset


@featureset
class Moody:
    key: str
    size: int
    thread: str

    @extractor(deadline=0.2)
    @extractor_inputs("key")
    @extractor_outputs("size", "thread")
    def mood(cls, ts, key):
        while key == "loops":
            pass
        if key == "sleeps":
            # A pipe without a writer: native code that does not return before the test lets it.
            libc = ctypes.CDLL(None)
            libc.close(libc.open(os.fsencode(GATE), os.O_RDONLY))
        if key == "raises":
            raise ValueError("no good")
        with open(f"/proc/self/task/{threading.get_native_id()}/comm") as name:
            return len(key), name.read().strip()


@featureset
class Calm:
    key: str
    size: int

    @extractor
    @extractor_inputs("key")
    @extractor_outputs("size")
    def measure(cls, ts, key):
        return len(list(key))  # not native
"""

SEATS = 2
CALLS = 400
# On a machine that is busy, calls seem slow for long.
PATIENCE = 50_000


@pytest.fixture
def moody(make_server, tmp_path):
    """Its calls for "sleeps" hang until `gate` is opened for writing."""
    server = make_server().start()
    server.gate = str(tmp_path / "gate")
    os.mkfifo(server.gate)
    done = server.commit(SOURCE.replace("GATE", repr(server.gate)))
    assert done.returncode == 0, done.stderr
    return server


def warm_up(client, calls: int = CALLS) -> str:
    """Calls until one ran on a thread that serves requests; the last thread otherwise."""
    for _ in range(calls):
        answer = client.query("Moody", "abc").to_dicts()[0]
        assert answer["size"] == 3
        if answer["thread"] == "thyme-server":
            break
    return answer["thread"]


def test_quick_calls_run_where_the_request_is(moody):
    with moody.client() as client:
        assert warm_up(client, PATIENCE) == "thyme-server"
        row = client.query("Moody", "raises")
        assert "raised ValueError: no good" in str(row.errors), row
        assert warm_up(client, PATIENCE) == "thyme-server"


def test_a_loop_is_interrupted_there_too(moody):
    with moody.client() as client:
        for _ in range(3):
            assert warm_up(client, PATIENCE) == "thyme-server"
            told = str(client.query("Moody", "loops").errors)
            assert "did not return within 200 ms and was interrupted" in told
            assert client.query("Calm", "abcd").to_dicts()[0]["size"] == 4


def test_threads_stuck_in_native_code_are_not_missed(moody):
    """More of them than there are seats, while everybody else is answered; at the end the server stops."""
    with moody.client() as client, concurrent.futures.ThreadPoolExecutor() as pool:
        threads = []
        for _ in range(SEATS + 3):
            threads.append(warm_up(client, CALLS if threads else PATIENCE))
            stuck = pool.submit(client.query, "Moody", "sleeps")
            while not stuck.done():
                assert client.query("Calm", "abcd").to_dicts()[0]["size"] == 4
            assert "its worker was replaced" in str(stuck.result().errors)
        assert threads[0] == "thyme-server"
        assert threads[-1] == "thyme-extractor"
        # What comes back takes calls again.
        os.close(os.open(moody.gate, os.O_WRONLY))
        ends = time.monotonic() + 120
        while warm_up(client) != "thyme-server":
            assert time.monotonic() < ends
        told = pool.submit(client.query, "Moody", "sleeps").result()
        assert "its worker was replaced" in str(told.errors)
    assert moody.stop() == 0
