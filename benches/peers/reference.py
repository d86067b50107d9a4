"""What is right: every value computed again from all events of the key, one question after the other, in exact
arithmetic. Nothing here is shared with a peer or with Thyme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from workload import WINDOWS, Rows

SCALE = 1 << 60  # the least amount is 0.01, whose last bit stands at 2^-59
SAMPLE = 1000
SHOWN = 3

# What a system answers with per window. Whole cents are exact in 64-bit integers; amounts (cents / 100) are floats,
# whose sums are right only if they are rounded once.
CENTS = ("count", "sum_cents", "avg_cents", "max_cents")
CENTS_WITHOUT_MAX = CENTS[:3]
AMOUNTS = ("count", "sum", "avg", "max")
ONLINE = ("count_1h", "sum_1h", "avg_1h", "max_1h", "count_24h", "sum_24h", "avg_24h", "max_24h", "count_7d", "sum_7d")


class WrongAnswerError(Exception):
    """A result is not what the brute force says."""


def columns(kinds: Iterable[str], windows: Iterable[str] = WINDOWS) -> list[str]:
    """`count_1h`, …"""
    return [f"{kind}_{window}" for window in windows for kind in kinds]


class Reference:
    """The brute force over events.

    Args:
        exclusive: windows end just before the question's time; for the proof that a check sees the difference.
    """

    def __init__(self, events: Rows, exclusive: bool = False) -> None:
        self.events = events
        self.exclusive = exclusive
        self._order = np.argsort(events.key, kind="stable")
        self._keys = events.key[self._order]

    def answers(self, questions: Rows, seen_until: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """One value per question and column; NaN is null.

        Args:
            seen_until: per question, how many events had arrived: the later ones do not count.
        """
        names = columns(dict.fromkeys(CENTS + AMOUNTS))
        found = {name: np.empty(len(questions)) for name in names}
        for row, (key, time) in enumerate(zip(questions.key.tolist(), questions.time.tolist(), strict=True)):
            first, last = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
            places = self._order[first:last]
            if seen_until is not None:
                places = places[places < seen_until[row]]
            times = self.events.time[places]
            for window, length in WINDOWS.items():
                is_before = times < time if self.exclusive else times <= time
                cents = self.events.cents[places[is_before & (times >= time - length)]].tolist()
                for kind, value in _values(cents).items():
                    found[f"{kind}_{window}"][row] = value
        return found


def _values(cents: list[int]) -> dict[str, float]:
    # A quotient of ints is rounded once.
    count, scaled = len(cents), sum(int(one / 100 * SCALE) for one in cents)
    return {
        "count": count,
        "sum_cents": sum(cents),
        "avg_cents": sum(cents) / count if count else np.nan,
        "max_cents": max(cents, default=np.nan),
        "sum": scaled / SCALE,
        "avg": scaled / (count * SCALE) if count else np.nan,
        "max": max(cents) / 100 if count else np.nan,
    }


def check(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
    """Compares the named columns bit by bit; none may lack.

    Raises:
        WrongAnswerError: with the first differences.
    """
    differences = []
    for name in names:
        if name not in found:
            raise WrongAnswerError(f"no column {name}, only {', '.join(found)}")
        wanted, given = expected[name], np.asarray(found[name], np.float64)
        if wanted.shape != given.shape:
            raise WrongAnswerError(f"{name} has {len(given)} rows where {len(wanted)} were asked for")
        same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
        differences += [f"{name}[{row}] is {given[row]!r}, not {wanted[row]!r}" for row in np.flatnonzero(~same)]
    if differences:
        raise WrongAnswerError(f"{len(differences)} values are wrong: {'; '.join(differences[:SHOWN])}")
