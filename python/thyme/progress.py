"""Progress of long work, on stderr, only where a person looks."""

from __future__ import annotations

import sys
from typing import Any

FROM_ROWS = 50_000


class Progress:
    """A bar over `total` rows (None: not known). `show`: True, False, or None for long work on a terminal."""

    def __init__(self, what: str, total: int | None, show: bool | None) -> None:
        self._what = what
        self._total = total
        self._show = show if show is not None else (total is None or total >= FROM_ROWS) and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if self._show:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total, rate="")
        return self

    def advance(self, rows: int) -> None:
        """So many rows more are done."""
        if self._bar is not None:
            task = self._bar.tasks[0]
            rate = f"{task.speed:,.0f} rows/s" if task.speed else ""
            self._bar.update(self._task, advance=rows, rate=rate)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
