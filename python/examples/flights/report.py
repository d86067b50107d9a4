"""What the demo says: sections, claims, progress on a terminal and in a log file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINES_PER_PROGRESS = 10


class Report:
    """Everything the demo prints, and what turned out wrong."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.failures: list[str] = []
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def section(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{escape(title)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True)

    def command(self, arguments: Sequence[str]) -> None:
        self.console.print(f"[bold]$ {escape(' '.join(arguments))}[/]", soft_wrap=True)

    def claim(self, holds: bool, text: str) -> None:
        """A promise, kept or not; a broken one makes the demo fail."""
        self.console.print(f"[green]✓[/] {escape(text)}" if holds else f"[bold red]✗ {escape(text)}[/]", soft_wrap=True)
        if not holds:
            self.failures.append(text)

    @contextmanager
    def progress(self, what: str, total: int, unit: str) -> Iterator[Any]:
        """Yields `advance(count)`; a bar with the rate, or a line per tenth where no terminal is."""
        began = time.monotonic()
        done, shown = 0, 0
        one_at_a_time = threading.Lock()

        def rate() -> str:
            return f"{done / max(time.monotonic() - began, 1e-9):,.0f} {unit}/s"

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,} {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        with bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(count: int) -> None:
                nonlocal done, shown
                with one_at_a_time:
                    done += count
                    bar.update(task, completed=done, rate=rate())
                    tenth = done * LINES_PER_PROGRESS // max(total, 1)
                    if tenth > shown and not self.console.is_terminal:
                        self.say(f"  {what}: {done:,} of {total:,} ({rate()})")
                        shown = tenth

            yield advance
        self.say(f"{what}: {done:,} {unit} in {time.monotonic() - began:.1f} s ({rate()})")
