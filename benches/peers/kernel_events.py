"""The kernel alone in a loop: what any engine that calls Python for each event adds its own costs to. A limit and not a
product: everything is in memory and gone at the end."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from adapter import main
from events_adapter import PerEvent, as_columns
from kernel import Windows


class Kernel(PerEvent):
    """One core."""

    version = f"Python {platform.python_version()}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.rows: list[Any] = []
        self.listed = list(zip(*(column.tolist() for column in vars(self.events).values()), strict=True))

    def compute(self, keep: bool) -> int:
        """A dict of keys."""
        state: dict[int, Windows] = {}
        self.rows, seen = [], 0
        for key, time, cents in self.listed:
            windows = state.get(key)
            if windows is None:
                windows = state[key] = Windows()
            found = windows.add(time, cents)
            seen += 1
            if keep:
                self.rows.append(found)
        return seen

    def kept(self) -> dict[str, Any]:
        """In order of arrival, as they came."""
        return as_columns(self.rows)


if __name__ == "__main__":
    main(Kernel)
