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


VISITS = """
from thyme import ExpDecaySum, TopK


@dataset(index=True, version=1)
class Visit:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    seconds: int


@dataset(index=True, version=1)
class VisitStats:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    visits: int
    middle: float
    fading: float
    lately: list[int]

    @pipeline(version=1)
    @inputs(Visit)
    def compute(cls, visits):
        return visits.groupby("user").aggregate(
            visits=Count(window="forever"),
            middle=ApproxPercentile(of="seconds", window="forever", pct=50),
            fading=ExpDecaySum(of="seconds", window="30d", half_life="6h"),
            lately=LastK(of="seconds", window="1d", k=5, dedup=True),
        )


@featureset
class VisitFeatures:
    user: str
    visits: int = feature(ref=VisitStats.visits)
    middle: float = feature(ref=VisitStats.middle, default=-1.0)
    fading: float = feature(ref=VisitStats.fading)
    lately: list[int] = feature(ref=VisitStats.lately)
"""
FEATURESETS = ("UserFeatures", "VisitFeatures")


def visits() -> list[dict[str, Any]]:
    """Hundreds for one user, so that sketches are stored, and a few for others."""
    return [
        {
            "user": USERS[0] if number % 5 else USERS[number % 7],
            "ts": micros_text(START + number * 61_000_000),
            "seconds": number * 7919 % 1000,
        }
        for number in range(500)
    ]


def late() -> dict[str, Any]:
    """An order before the watermark, which is dropped."""
    return {**rows(1, 3, 9000)[0], "user": USERS[0], "ts": micros_text(START - 100 * HOUR)}


def questions(positions: dict[str, str]) -> list[dict[str, Any]]:
    """Now, in the middle, at an event, exclusive, and as known when half of the rows were there."""
    middle = micros_text(START + 5 * HOUR)
    at_event = str(rows(COUNT, 1)[100]["ts"])
    times: list[dict[str, Any]] = [
        {},
        {"ts": middle},
        {"ts": at_event},
        {"ts": at_event, "exclusive": True},
        {"ts": micros_text(START + 400 * HOUR)},
    ]
    return [
        {"featureset": featureset, **question}
        for featureset in FEATURESETS
        for question in [*times, {"ts": middle, "known_at": positions[featureset]}]
    ]


def answers(client: Client, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Questions with all that their answers say, as JSON that keeps every bit."""
    told = []
    for question in asked:
        about = {name: value for name, value in question.items() if name != "featureset"}
        answer = client.query_batch(question["featureset"], [*USERS, "nobody"], **about)
        # Where a question gives no time, that of the answer is part of it.
        told.append(
            {
                "question": question,
                "ts": _plain(answer.ts),
                "watermark": _plain(answer.watermark),
                "position": answer.position,
                "final": answer.final,
                "statuses": answer.statuses,
                "rows": _plain(answer.to_dicts()),
            }
        )
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
    """Half of the rows, a kill, the other half with some of the first again, a late one, an erase; then a clean end."""
    GOLDEN.mkdir(exist_ok=True)
    made = rows(COUNT, 1)
    ids = [f"order-{row['order_id']}" for row in made]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        try:
            done = server.commit(SOURCE + VISITS)
            assert done.returncode == 0, done.stderr
            with server.client() as client:
                client.query("VisitFeatures", USERS[0], at_least=client.log("Visit", visits()).position)
                half = client.log("Order", made[: COUNT // 2], event_ids=ids[: COUNT // 2])
                client.query("UserFeatures", USERS[0], at_least=half.position)
                served = {name: client.query_batch(name, [*USERS, "nobody"]).position for name in FEATURESETS}
            server.kill()
            server.start()
            with server.client(retry_for=60) as client:
                rest = client.log("Order", made[COUNT // 4 :], event_ids=ids[COUNT // 4 :])
                client.query("UserFeatures", USERS[0], at_least=rest.position)
                client.query("UserFeatures", USERS[0], at_least=client.log("Order", [late()]).position)
                client.erase("Visit", [USERS[1]])
                again = client.log("Visit", [{**visits()[-1], "user": USERS[1]}])
                client.query("VisitFeatures", USERS[1], at_least=again.position)
                expected = answers(client, questions(served))
        finally:
            server.stop()
        with tarfile.open(GOLDEN / f"data-{name}.tar.gz", "w:gz") as archive:
            archive.add(Path(folder) / "data", "data", filter=_kept)
    text = (
        json.dumps({"answers": expected}, indent=None, separators=(",", ":")).replace('{"question"', '\n{"question"')
        + "\n"
    )
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
