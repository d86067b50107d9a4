"""A data directory of every format that was ever released opens and gives the answers it gave, bit for bit.

A version that cannot open one refuses it with a message that names both formats; then its golden directory moves to
`REFUSED`. Add a directory with `make_golden.py` when the format changes; never write an old one again.
"""

from __future__ import annotations

import json
import tarfile

import pytest

from make_golden import GOLDEN, answers
from shop import rows

# Newer than the oldest supported Python.
SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
REFUSED: dict[str, str] = {}  # name to what the message says
NAMES = sorted(file.name.removesuffix(".tar.gz") for file in GOLDEN.glob("*.tar.gz"))


@pytest.fixture
def unpacked(make_server):
    def unpack(name):
        server = make_server(name)
        with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
            archive.extractall(server.directory, **SAFELY)
        return server

    return unpack


def test_there_is_one():
    assert NAMES
    assert all((GOLDEN / f"{name}.tar.gz").stat().st_size < 200_000 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_it_did_and_goes_on(name, unpacked):
    if name in REFUSED:
        done = unpacked(name).serve_to_end()
        assert done.returncode != 0
        assert REFUSED[name] in done.stderr
        return
    server = unpacked(name).start()
    expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["answers"]
    asked = [entry["question"] for entry in expected]
    with server.client() as client:
        assert answers(client, asked) == expected
        # New rows count on top, also after another start.
        before = client.query("UserFeatures", "user_1").to_dicts()[0]["n_all"]
        sent = client.log("Order", [{**rows(1, 2, 5000)[0], "user": "user_1"}])
        after = client.query("UserFeatures", "user_1", at_least=sent.position).to_dicts()[0]["n_all"]
        assert after == before + 1
    server.stop()
    server.start()
    with server.client(retry_for=60) as client:
        assert client.query("UserFeatures", "user_1").to_dicts()[0]["n_all"] == after
        # The golden questions that name a time before the new row: all but how far the state is.
        old = [entry for entry in expected if entry["question"].get("ts", "9") < "2025-06-17"]
        assert len(old) >= 4
        found = answers(client, [entry["question"] for entry in old])
        assert [timeless(entry) for entry in found] == [timeless(entry) for entry in old]


def timeless(entry):
    return {name: held for name, held in entry.items() if name not in ("watermark", "position", "final")}


def test_what_the_golden_answers_hold():
    """A late row, an erased key, unknown keys, sketches, final and open answers are among them."""
    for name in NAMES:
        expected = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["answers"]
        assert {entry["final"] for entry in expected} == {True, False}
        assert any("DEFAULT" in statuses for entry in expected for statuses in entry["statuses"].values())
        now = next(entry for entry in expected if entry["question"] == {"featureset": "VisitFeatures"})
        visits = {row["user"]: row["visits"] for row in now["rows"]}
        assert (visits["user_1"], visits["nobody"]) == (1, 0)
        assert visits["user_0"] > 64
