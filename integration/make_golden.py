"""Writes `golden/`: a data directory of this version and the answers it gives. Run it once per format of the directory:

python integration/make_golden.py 1
"""

from __future__ import annotations

import base64
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from harness import Server
from shop import SOURCE, START, USERS, micros_text, rows
from thyme.client import Client

GOLDEN = Path(__file__).parent / "golden"
COUNT = 300
HOUR = 3_600_000_000
# What one process leaves for the next to find, and nobody needs to keep.
LEFT_OUT = ("server.lock", "LOCK", "lock", "LOG")


def questions(position: str) -> list[dict[str, Any]]:
    """Now, in the middle, at an event, exclusive, and as known when half of the rows were there."""
    middle = micros_text(START + 5 * HOUR)
    at_event = str(rows(COUNT, 1)[100]["ts"])
    return [
        {},
        {"ts": middle},
        {"ts": at_event},
        {"ts": at_event, "exclusive": True},
        {"ts": middle, "known_at": position},
        {"ts": micros_text(START + 400 * HOUR)},
    ]


def answers(client: Client, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Questions with all that their answers say, as JSON that keeps every bit."""
    told = []
    for question in asked:
        answer = client.query_batch("UserFeatures", [*USERS, "nobody"], **question)
        # Where a question gives no time, that of the answer is part of it.
        told.append({"question": question, "ts": _plain(answer.ts), "rows": _plain(answer.to_dicts())})
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(held) for name, held in value.items()}
    if isinstance(value, list):
        return [_plain(held) for held in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def make(name: str) -> None:
    """Half of the rows, a kill, the other half with some of the first again; then a clean end."""
    GOLDEN.mkdir(exist_ok=True)
    made = rows(COUNT, 1)
    ids = [f"order-{row['order_id']}" for row in made]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            done = server.commit(SOURCE)
            assert done.returncode == 0, done.stderr
            with server.client() as client:
                half = client.log("Order", made[: COUNT // 2], event_ids=ids[: COUNT // 2])
                served = client.query_batch("UserFeatures", [*USERS, "nobody"], at_least=half.position)
            server.kill()
            server.start()
            with server.client(retry_for=60) as client:
                rest = client.log("Order", made[COUNT // 4 :], event_ids=ids[COUNT // 4 :])
                client.query("UserFeatures", USERS[0], at_least=rest.position)
                expected = answers(client, questions(served.position))
        finally:
            server.stop()
        with tarfile.open(GOLDEN / f"data-{name}.tar.gz", "w:gz") as archive:
            archive.add(Path(folder) / "data", "data", filter=_kept)
    text = json.dumps({"answers": expected}, indent=1) + "\n"
    (GOLDEN / f"data-{name}.json").write_text(text, encoding="utf-8")


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nothing of the machine it was made on."""
    name = Path(entry.name).name
    if name in LEFT_OUT or name.startswith("LOG.old"):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    make(sys.argv[1])
