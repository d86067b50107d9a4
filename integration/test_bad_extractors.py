"""Extractors that misbehave in a running server: they fail their own outputs, and nothing else."""

from __future__ import annotations

import json
import re
import textwrap
import urllib.parse
import urllib.request

import pyarrow as pa
import pytest

from surfaces import exchange, http

EXTRACTORS = """
import ctypes
import time

from thyme import extractor, extractor_inputs, extractor_outputs, feature, featureset


@featureset
class Bad:
    key: str
    good: int
    raises: int
    after: int
    loops: int
    stuck: int
    arity: int
    arity_too: int
    kind: int

    @extractor
    @extractor_inputs("key")
    @extractor_outputs("good")
    def fine(cls, ts, key):
        return len(list(key))  # not native

    @extractor
    @extractor_inputs("key")
    @extractor_outputs("raises")
    def explode(cls, ts, key):
        raise ValueError("no good")

    @extractor
    @extractor_inputs("raises")
    @extractor_outputs("after")
    def depends(cls, ts, raises):
        return raises + 1

    @extractor(deadline=0.3)
    @extractor_inputs("key")
    @extractor_outputs("loops")
    def spin(cls, ts, key):
        while True:
            pass

    @extractor(deadline=0.3)
    @extractor_inputs("key")
    @extractor_outputs("stuck")
    def sleep(cls, ts, key):
        ctypes.PyDLL(None).sleep(4)
        return 1

    @extractor
    @extractor_inputs("key")
    @extractor_outputs("arity", "arity_too")
    def three(cls, ts, key):
        return 1, 2, 3

    @extractor
    @extractor_inputs("key")
    @extractor_outputs("kind")
    def text(cls, ts, key):
        return "seven"
"""


# Feature, and what its reason says.
WANTED = [
    ("raises", "raised ValueError: no good (bad_extractors.py:"),
    ("after", "raises"),
    ("loops", "did not return within 300 ms and was interrupted"),
    ("stuck", "did not return within 300 ms and could not be interrupted; its worker was replaced"),
    ("arity", "returned a tuple of 3 for 2 outputs"),
    ("kind", "returned str for feature 'kind', which is int"),
]


@pytest.fixture(scope="module")
def bad(shop):
    done = shop.commit(textwrap.dedent(EXTRACTORS).replace("PyDLL", "CDLL"), "bad_extractors.py")
    assert done.returncode == 0, done.stderr
    return shop


@pytest.mark.parametrize(("name", "says"), WANTED)
def test_an_extractor_that_misbehaves_fails_its_own_outputs(bad, name, says):
    query = urllib.parse.urlencode({"featureset": "Bad", "key": "abc", "features": f"good,{name}"})
    code, answer = http(f"http://{bad.queries}/features?{query}")
    assert code == 200, answer
    assert answer["features"] == {"good": 3, name: None}
    assert answer["statuses"]["good"] == "OK"
    assert "ERROR" in json.dumps(answer["statuses"][name])
    assert says in json.dumps(answer), answer
    with bad.client() as client:
        result = client.query("Bad", "abc", features=["good", name])
        assert result.to_dicts()[0][name] is None and result.to_dicts()[0]["good"] == 3
    shown = bad.run("query", "Bad", "-e", "abc", "--features", f"good,{name}", "-f", "json")
    assert says in shown.stdout + shown.stderr, shown
    spine = pa.table({"key": ["abc", "abcd"], "ts": ["2025-06-20T00:00:00Z"] * 2})
    wanted = {"featureset": "Bad", "timestamp_column": "ts", "features": ["good", name], "statuses": True}
    joined = exchange(bad, spine, **wanted).to_pylist()
    assert [(row["good"], row["good__status"]) for row in joined] == [(3, "OK"), (4, "OK")]
    assert [(row[name], row[f"{name}__status"]) for row in joined] == [(None, "ERROR")] * 2
    _still_right(bad)


def test_stuck_workers_are_replaced_and_counted(bad):
    """More calls than there are workers, all stuck at once: extractors go on."""
    query = f"http://{bad.queries}/features?featureset=Bad&key=abc&features=stuck"
    before = _lost(bad)
    for _ in range(4):
        assert http(query)[1]["features"] == {"stuck": None}
    assert _lost(bad) == before + 4
    _still_right(bad)


def _lost(server):
    with urllib.request.urlopen(f"http://{server.queries}/metrics", timeout=30) as response:
        found = re.search(r"^thyme_extractor_workers_lost_total (\d+)", response.read().decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def _still_right(server):
    with server.client() as client:
        for _ in range(4):
            assert client.query("Bad", "abcd", features=["good"]).to_dicts()[0]["good"] == 4
        answer = client.query("UserFeatures", "user_1", features=["n_all", "share"]).to_dicts()[0]
        assert answer["n_all"] == server.counted["user_1"]
