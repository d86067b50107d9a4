"""What the adapters of the point-in-time join have in common: the rows they join, and the form of their results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import workload
from workload import WINDOWS


class Join(ABC):
    """A spine joined with the windows of its events. Events and spines are loaded in the peer's own form beforehand."""

    version: str

    def __init__(self, folder: Path) -> None:
        self.events = workload.read(folder, "events")
        self.spines = {spine: workload.read(folder, spine) for spine in workload.SPINES}
        self.joined: Any = None

    def run(self, spine: str) -> dict[str, Any]:
        """Joins; the result stays in memory as columns."""
        self.joined = None
        self.joined = self.join(spine)
        return {}

    def answers(self, spine: str) -> dict[str, np.ndarray]:
        """The result in the order of the spine."""
        self.run(spine)
        return {name: values for name, values in in_order(self.columns(self.joined)).items() if name != "row"}

    @abstractmethod
    def join(self, spine: str) -> Any:
        """The work."""

    def columns(self, joined: Any) -> Mapping[str, Any]:
        """The result's columns by name, one of which, `row`, is the number of the spine's row."""
        return joined


def in_order(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """As floats, null as NaN, sorted by `row`."""
    plain = {}
    for name, values in found.items():
        masked = np.ma.masked_invalid(np.ma.asarray(values).astype(np.float64))
        plain[name] = masked.filled(np.nan)
    order = np.argsort(plain["row"])
    if not np.array_equal(plain["row"][order], np.arange(len(order))):
        raise ValueError("the result does not have each row of the spine once")
    return {name: values[order] for name, values in plain.items()}


__all__ = ["WINDOWS", "Join", "in_order"]
