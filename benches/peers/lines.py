"""Figures and how they are printed: JSON lines with the fields of `make bench` and some more."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Target:
    """What is to be reached: by the measure, or by its ratio to a peer where the line is about one."""

    bound: float
    is_least: bool = True

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.bound:,}"

    def is_reached(self, value: float) -> bool:
        """By this value."""
        return value >= self.bound if self.is_least else value <= self.bound


@dataclass
class Report:
    """Prints lines, and remembers whether anything failed."""

    failed: list[str] = field(default_factory=list)

    def measure(
        self,
        name: str,
        value: float,
        unit: str,
        peer: str | None = None,
        ratio: float | None = None,
        target: Target | None = None,
        floor: bool = False,
        **more: Any,
    ) -> None:
        """One figure: ours without a peer, or the peer's with ours over it."""
        line: dict[str, Any] = {"name": name, "value": rounded(value), "unit": unit, "peer": peer}
        line["ratio"] = None if ratio is None else rounded(ratio)
        judged = value if peer is None else ratio
        if target is not None and judged is not None:
            line |= {"target": str(target), "reached": target.is_reached(judged)}
        if floor:
            line["floor"] = True
        self._print(line | {key: rounded(found) for key, found in more.items() if found is not None})

    def error(self, name: str, unit: str, peer: str | None, error: object, floor: bool = False) -> None:
        """What should have been a figure."""
        self.failed.append(f"{name} of {peer or 'thyme'}: {error}")
        line = {"name": name, "value": None, "unit": unit, "peer": peer, "ratio": None}
        self._print(line | ({"floor": True} if floor else {}) | {"error": str(error)})

    def _print(self, line: dict[str, Any]) -> None:
        print(json.dumps(line, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def rounded(value: Any) -> Any:
    """Four significant digits: more are noise."""
    if not isinstance(value, float) or value == 0 or not math.isfinite(value):
        return value
    digits = 3 - math.floor(math.log10(abs(value)))
    return round(value, digits) if digits > 0 else float(round(value))


def middle(values: list[float]) -> float:
    """The median."""
    return float(median(values))
