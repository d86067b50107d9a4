"""The standard workload of `benches/src/workload/`, drawn number by number in the same order: Zipf keys that arrive up
to ten minutes out of order, and a spine of which a third lies exactly on an event or exactly one window after one.

In files of one column each, because numpy is all that every peer's environment has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
WINDOWS = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY}
LENGTHS = list(WINDOWS.values())
START = 1_704_067_200 * SECOND  # 2024-01-01T00:00:00Z
STEP = 1000  # event times are whole milliseconds
DISORDER = 600 * SECOND
ZIPF_EXPONENT = 1.1
MAX_CENTS = 5_000_000.0
SPARSE_ROWS = 5_000
SPINES = ("sorted", "random", "sparse")
GAMMA, WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


class Random:
    """SplitMix64. The state only counts, so many numbers are made at once."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def words(self, count: int) -> np.ndarray:
        """The next numbers, 64 bits each."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GAMMA)
        mixed = steps + np.uint64(self.state)
        self.state = (self.state + count * GAMMA) & WORD
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))

    def go_back(self, count: int) -> None:
        """As if the last `count` numbers had not been drawn."""
        self.state = (self.state - count * GAMMA) & WORD

    def order(self, length: int) -> np.ndarray:
        """The numbers below `length`, shuffled."""
        last = np.arange(length - 1, 0, -1)
        others = below(self.words(len(last)), last + 1).tolist()
        items = list(range(length))
        for place, other in zip(last.tolist(), others, strict=True):
            items[place], items[other] = items[other], items[place]
        return np.array(items, np.int64)

    def sample(self, length: int, count: int) -> np.ndarray:
        """Different numbers below `length`."""
        return self.order(length)[:count]


def unit(words: np.ndarray) -> np.ndarray:
    """Uniform in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def below(words: np.ndarray, limit: int | np.ndarray) -> np.ndarray:
    """Uniform in [0, limit), for limits below 2^32: the upper word of the product."""
    limit = np.asarray(limit, np.uint64)
    half = np.uint64(32)
    low = ((words & np.uint64(0xFFFFFFFF)) * limit) >> half
    return (((words >> half) * limit + low) >> half).astype(np.int64)


def moments(words: np.ndarray, span: int) -> np.ndarray:
    """Whole milliseconds below `span`."""
    return below(words, span // STEP) * STEP


@dataclass(frozen=True)
class Shape:
    """What to draw."""

    events: int = 1_000_000
    keys: int = 50_000
    spine: int = 200_000
    days: int = 30
    seed: int = 20_261_120


D1 = Shape()
D5 = Shape(events=5_000_000, keys=1_000_000, spine=0)


@dataclass
class Rows:
    """Keys and times in microseconds; events have cents as well and stand in order of arrival."""

    key: np.ndarray
    time: np.ndarray
    cents: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.key)

    def take(self, places: np.ndarray) -> Rows:
        """Those at `places`."""
        return Rows(self.key[places], self.time[places], None if self.cents is None else self.cents[places])

    def write(self, folder: Path, name: str) -> None:
        """One file per column."""
        for column, values in vars(self).items():
            if values is not None:
                np.save(folder / f"{name}_{column}.npy", values)


def read(folder: Path, name: str) -> Rows:
    """What `write` wrote."""
    cents = folder / f"{name}_cents.npy"
    key, time = (np.load(folder / f"{name}_{column}.npy") for column in ("key", "time"))
    return Rows(key, time, np.load(cents) if cents.exists() else None)


def generate(shape: Shape) -> tuple[Rows, Rows]:
    """Events and spine."""
    random = Random(shape.seed)
    events = _events(shape, random)
    return events, _spine(shape, events, random)


def write(shape: Shape, folder: Path) -> tuple[Rows, dict[str, Rows]]:
    """Events and spines of each kind, given and in files."""
    folder.mkdir(parents=True)
    events, drawn = generate(shape)
    events.write(folder, "events")
    spines = {}
    if shape.spine:
        sparse = Random(13).sample(len(drawn), max(1, SPARSE_ROWS * shape.spine // D1.spine))
        orders = (np.lexsort((drawn.time, drawn.key)), Random(7).order(len(drawn)), sparse)
        spines = {kind: drawn.take(order) for kind, order in zip(SPINES, orders, strict=True)}
    for kind, spine in spines.items():
        spine.write(folder, kind)
    return events, spines


def _events(shape: Shape, random: Random) -> Rows:
    count, span = shape.events, shape.days * DAY
    time = np.sort(START + moments(random.words(count), span))
    masses = np.array(list(accumulate(float(rank) ** -ZIPF_EXPONENT for rank in range(1, shape.keys + 1))))
    keys = random.order(shape.keys)
    drawn = unit(random.words(3 * count)).reshape(count, 3)
    ranks = np.searchsorted(masses, drawn[:, 0] * masses[-1], "right")
    key = keys[np.minimum(ranks, shape.keys - 1)]
    cents = np.array([_cents(first, second) for first, second in drawn[:, 1:].tolist()], np.int64)
    # Boundary material: 2 % copy the key of another event and stand exactly one window after it.
    targets = random.sample(count, count // 50)
    chosen = random.words(2 * len(targets)).reshape(-1, 2)
    source = below(chosen[:, 0], count)
    moved = time[source] + np.array(LENGTHS)[below(chosen[:, 1], len(LENGTHS))]
    inside = moved < START + span
    new_keys = key[source[inside]]
    key[targets[inside]], time[targets[inside]] = new_keys, moved[inside]
    order = np.argsort(time + _delays(count, random), kind="stable")
    return Rows(key, time, cents).take(order)


def _cents(first: float, second: float) -> int:
    """Lognormal, by Box and Muller; the C library's functions, as in Rust: numpy's own may differ in the last bit."""
    normal = math.sqrt(-2.0 * math.log(1.0 - first)) * math.cos(math.tau * second)
    return int(min(math.exp(normal * 1.1 + 3.2) * 100.0, MAX_CENTS)) + 1


def _delays(count: int, random: Random) -> np.ndarray:
    """One in five comes late, and takes one number more."""
    words = random.words(2 * count)
    late = (unit(words) < 0.2).tolist()
    places, at = [], 0
    for _ in range(count):
        places.append(at)
        at += 2 if late[at] else 1
    random.go_back(2 * count - at)
    first = np.array(places, np.int64)
    after = np.minimum(first + 1, 2 * count - 1)
    return np.where(np.array(late)[first], moments(words[after], DISORDER), 0)


def _spine(shape: Shape, events: Rows, random: Random) -> Rows:
    """60 % up to two days after an event of the key, 20 % exactly at one, 10 % exactly one window after one, 10 %
    anywhere."""
    words = random.words(4 * shape.spine)
    ints, units = words.tolist(), unit(words).tolist()
    keys, times, at = [], [], 0

    def drawn(limit: int) -> int:
        nonlocal at
        at += 1
        return (ints[at - 1] * limit) >> 64

    for _ in range(shape.spine):
        event, kind = drawn(len(events)), units[at]
        at += 1
        key, time = int(events.key[event]), int(events.time[event])
        if kind < 0.6:
            time += drawn(2 * DAY // STEP) * STEP
        elif 0.8 <= kind < 0.9:
            time += LENGTHS[drawn(len(LENGTHS))]
        elif kind >= 0.9:
            key, time = drawn(shape.keys), START + drawn(shape.days * DAY // STEP) * STEP
        keys.append(key)
        times.append(time)
    return Rows(np.array(keys, np.int64), np.array(times, np.int64))
