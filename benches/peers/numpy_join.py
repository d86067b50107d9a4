"""numpy: what the arithmetic alone costs on one core. One sort, running sums, binary searches, and a table of maxima
over runs of 1, 2, 4, … events. A limit and not a product: nothing is kept and nothing can be asked again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import workload
from adapter import main
from join_adapter import WINDOWS, Join

# Key and time in one number, with room for the longest window between two keys.
TIME_BITS = 42


class Numpy(Join):
    """Arrays in memory."""

    version = f"numpy {np.__version__}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)

    def join(self, spine: str) -> dict[str, np.ndarray]:
        """The whole way, the sort of the events included."""
        places = _places(self.events)
        order = np.argsort(places, kind="stable")
        places, cents = places[order], self.events.cents[order]
        running = np.concatenate([[0], np.cumsum(cents)])
        maxima = _maxima(cents)
        asked = _places(self.spines[spine])
        last = np.searchsorted(places, asked, "right")
        joined = {"row": np.arange(len(asked))}
        for window, length in WINDOWS.items():
            first = np.searchsorted(places, asked - length, "left")
            count, total = last - first, running[last] - running[first]
            joined |= {f"count_{window}": count, f"sum_cents_{window}": total}
            joined[f"avg_cents_{window}"] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            joined[f"max_cents_{window}"] = _greatest(maxima, first, last)
        return joined


def _places(rows: workload.Rows) -> np.ndarray:
    return (rows.key << TIME_BITS) + (rows.time - workload.START)


def _maxima(cents: np.ndarray) -> list[np.ndarray]:
    """Level n has the greatest of the 2^n events from each place on."""
    levels, length = [cents], 1
    while 2 * length <= len(cents):
        levels.append(np.maximum(levels[-1][:-length], levels[-1][length:]))
        length *= 2
    return levels


def _greatest(maxima: list[np.ndarray], first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Of each run: two runs of a power of two cover it."""
    found = np.full(len(first), np.nan)
    filled = np.flatnonzero(last > first)
    levels = np.frexp(last[filled] - first[filled])[1] - 1
    for level in np.unique(levels):
        rows = filled[levels == level]
        found[rows] = np.maximum(maxima[level][first[rows]], maxima[level][last[rows] - (1 << level)])
    return found


if __name__ == "__main__":
    main(Numpy)
