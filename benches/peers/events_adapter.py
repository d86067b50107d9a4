"""What the adapters of values per event have in common: the events, and the form of their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import workload
from reference import CENTS, columns


class PerEvent(ABC):
    """For each event the windows that end with it."""

    version: str

    def __init__(self, folder: Path) -> None:
        self.events = workload.read(folder, "events")

    def run(self) -> dict[str, Any]:
        """All events; the values are counted and thrown away."""
        seen = self.compute(keep=False)
        if seen != len(self.events):
            raise ValueError(f"{seen} rows of values for {len(self.events)} events")
        return {}

    @abstractmethod
    def compute(self, keep: bool) -> int:
        """The work; how many rows of values came. With `keep` they are there afterwards for `kept`."""

    @abstractmethod
    def kept(self) -> Mapping[str, Sequence[Any]]:
        """Columns in order of the events."""

    def answers(self, places: list[int]) -> dict[str, np.ndarray]:
        """The values of some events."""
        self.compute(keep=True)
        return {name: np.asarray(values, np.float64)[places] for name, values in self.kept().items()}


def as_columns(rows: Iterable[Sequence[Sequence[float]]]) -> dict[str, np.ndarray]:
    """Of rows of windows of values."""
    table = np.array([[value for window in row for value in window] for row in rows], np.float64)
    return dict(zip(columns(CENTS), table.T, strict=True))
