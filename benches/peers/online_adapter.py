"""What the adapters of online questions have in common: whom they ask for, how calls are timed, how load is made."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reference import ONLINE

WARM_UP = 100
EXTRACTED = "next_count"  # count_1h + 1, by a Python function

Values = dict[str, Sequence[Any]]
Ask = Callable[[list[int]], Values]


class Online(ABC):
    """Ten features of one entity or many. What is served is in `online.npz`: keys, and a column per feature.

    A system gives values by feature, one per key; None is null.
    """

    version: str

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "online.npz") as stored:
            self.stored = dict(stored)
        self.asked = np.load(folder / "events_key.npy")

    @abstractmethod
    def connect(self) -> Ask:
        """A connection of its own: what asks for the ten features of some keys."""

    def connect_extracted(self) -> Ask:
        """The same, with one feature more that a Python function makes when it is asked for."""
        raise NotImplementedError

    def keys(self, chance: np.random.Generator, count: int) -> list[int]:
        """Of events at random, so hot ones as often as they are hot."""
        return self.asked[chance.integers(0, len(self.asked), count)].tolist()

    def run(self, entities: int, calls: int, seed: int) -> dict[str, Any]:
        """One call at a time; nanoseconds each."""
        return self.timed(self.connect(), entities, calls, seed)

    def timed(self, ask: Ask, entities: int, calls: int, seed: int) -> dict[str, Any]:
        """The calls of a connection."""
        chance, taken = np.random.default_rng(seed), []
        for _ in range(WARM_UP):
            ask(self.keys(chance, entities))
        for _ in range(calls):
            keys = self.keys(chance, entities)
            started = time.perf_counter_ns()
            ask(keys)
            taken.append(time.perf_counter_ns() - started)
        return {"taken": taken}

    def answers(self, keys: list[int], entities: int) -> dict[str, np.ndarray]:
        """The ten features of these keys, so many at a time."""
        ask = self.connect()
        found = [ask(keys[first : first + entities]) for first in range(0, len(keys), entities)]
        return {
            name: np.array([np.nan if value is None else value for part in found for value in part[name]], np.float64)
            for name in ONLINE
        }

    def load(self, seconds: float, in_flight: int, seed: int, step: int) -> dict[str, Any]:
        """So many callers at once, each asking for one entity after the other. An answer whose extracted feature is
        not `count_1h` and `step` is an error, as is none."""
        counts = [[0, 0] for _ in range(in_flight)]
        until = time.monotonic() + seconds
        errors: list[str] = []

        def call(number: int) -> None:
            chance, ask = np.random.default_rng([seed, number]), self.connect_extracted()
            while time.monotonic() < until:
                counts[number][0] += 1
                try:
                    found = ask(self.keys(chance, 1))
                    if found[EXTRACTED][0] != found["count_1h"][0] + step:
                        raise ValueError(f"{EXTRACTED} is {found[EXTRACTED][0]}, count_1h {found['count_1h'][0]}")
                except Exception as error:
                    counts[number][1] += 1
                    errors.append(f"{type(error).__name__}: {error}"[:300])

        callers = [threading.Thread(target=call, args=(number,)) for number in range(in_flight)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        requests, failed = (sum(column) for column in zip(*counts, strict=True))
        return {"requests": requests, "errors": failed, "first": errors[0] if errors else None}
