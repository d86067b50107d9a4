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

REFUSED: dict[str, str] = {}  # name to what the message says
NAMES = sorted(file.name.removesuffix(".tar.gz") for file in GOLDEN.glob("*.tar.gz"))


@pytest.fixture
def unpacked(make_server):
    def unpack(name):
        server = make_server(name)
        with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
            archive.extractall(server.directory, filter="data")
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
        # The golden questions that name a time before the new row.
        old = [entry for entry in expected if entry["question"].get("ts", "9") < "2025-06-17"]
        assert len(old) >= 4
        assert answers(client, [entry["question"] for entry in old]) == old
