"""Online answers recorded while the stream runs, asked again afterwards: `ts` with `known_at` must give the same bits.

An online answer is `value(now)` over the events that had come in by then. `ts` alone takes all events of today, also
those that came late; `known_at=position` takes those that the answer stood on.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from server import Server

    from thyme.client import Client
    from thyme.result import ThymeResult

FEATURESET = "FlightFeatures"
ASKING_THREADS = 4
SLACK = 20  # questions that the stream may be ahead


@dataclass(frozen=True)
class Recorded:
    """An online answer, and what is needed to ask it again."""

    key: dict[str, str]
    ts: datetime | None
    position: str | None
    answer: str


@dataclass(frozen=True)
class Parity:
    asked: int
    differences: int
    differs_by_ts_alone: int
    example: str


def exact(result: ThymeResult) -> str:
    """All values and statuses of an answer; `repr` of a float is unique to its bits."""
    values = [(column.name, column.values) for column in result.columns or []]
    return repr((values, sorted(result.statuses.items()), sorted(result.errors.items())))


class Recorder:
    """Asks online questions on a thread of its own, spread evenly over the stream."""

    def __init__(self, server: Server, flights: pd.DataFrame, questions: int, seed: int = 2013) -> None:
        self.recorded: list[Recorded] = []
        self._server = server
        left = flights["departed"].notna().to_numpy()
        self._keys = list(zip(*(flights[name].tolist() for name in ("tailnum", "carrier", "origin")), strict=True))
        self._left = left
        self._random = random.Random(seed)
        self._due = [(number + 1) * len(flights) // (questions + 1) for number in range(questions)]
        self._seen = 0
        self._moved = threading.Condition()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def reached(self, seen: int) -> None:
        """The stream has sent so many flights; waits if the questions lag behind."""
        with self._moved:
            self._seen = seen
            self._moved.notify_all()
            due = sum(1 for place in self._due if place <= seen) - SLACK
            self._moved.wait_for(lambda: len(self.recorded) >= due or not self._thread.is_alive() or self._failure)

    def finish(self) -> list[Recorded]:
        """All answers, once the stream is at its end."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self.recorded

    def _run(self) -> None:
        try:
            with self._server.client() as client:
                for place in self._due:
                    with self._moved:
                        self._moved.wait_for(lambda place=place: self._seen >= place)
                        seen = self._seen
                    found = self._ask(client, self._some_key(seen))
                    with self._moved:
                        self.recorded.append(found)
                        self._moved.notify_all()
        except BaseException as error:  # handed to whoever waits
            with self._moved:
                self._failure = error
                self._moved.notify_all()

    def _some_key(self, seen: int) -> dict[str, str]:
        """Aircraft, carrier and airport of some flight: half the time one that left lately."""
        recent = self._random.random() < 0.5
        while True:
            place = self._random.randrange(max(0, seen - 5_000) if recent else 0, seen)
            if self._left[place]:
                return dict(zip(("tailnum", "carrier", "origin"), self._keys[place], strict=True))

    @staticmethod
    def _ask(client: Client, key: dict[str, str]) -> Recorded:
        result = client.query(FEATURESET, key)
        return Recorded(key, result.ts, result.position, exact(result))


def ask_again(server: Server, recorded: list[Recorded], advance: Callable[[int], None]) -> Parity:
    """Asks every question with `ts` and `known_at`, and with `ts` alone."""
    local = threading.local()
    clients: list[Client] = []

    def compare(question: Recorded) -> tuple[bool, bool, str]:
        if not hasattr(local, "client"):
            local.client = server.client()
            clients.append(local.client)
        again = exact(local.client.query(FEATURESET, question.key, ts=question.ts, known_at=question.position))
        by_time = exact(local.client.query(FEATURESET, question.key, ts=question.ts))
        advance(1)
        example = f"{question.key} at {question.ts}\n  was   {question.answer}\n  again {again}"
        return again != question.answer, by_time != question.answer, example

    with ThreadPoolExecutor(ASKING_THREADS) as pool:
        found = list(pool.map(compare, recorded))
    for client in clients:
        client.close()
    different = [example for is_different, _, example in found if is_different]
    return Parity(
        asked=len(found),
        differences=len(different),
        differs_by_ts_alone=sum(by_time for _, by_time, _ in found),
        example=different[0] if different else "",
    )
