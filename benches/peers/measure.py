"""CPU seconds and memory of processes with all that they have started, from `/proc`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 0.4
IDLE_CPU = 0.01  # what an idle process's timers may come to in that time


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_seconds(roots: Iterable[int], without: Iterable[int] = ()) -> float:
    """User and system time of the trees at `roots`, children that have ended included, less the trees at `without`."""
    left_out = {process for root in without for process in tree(root)}
    ticks = 0
    for process in {process for root in roots for process in tree(root)} - left_out:
        if fields := _fields(process):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_SECOND


def _fields(process: int) -> list[str]:
    """Those of `stat` from the third on; the second, the name, may hold anything. None of a process that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def forget_peak(root: int) -> None:
    """The most memory that a tree has held is counted from here on."""
    for process in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_mb(root: int) -> float:
    """The most memory that a tree's processes have held, each at its own time."""
    kilobytes = 0
    for process in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{process}/status").read_text()
            kilobytes += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return kilobytes / 1024


def wait_until_quiet(root: int) -> None:
    """Until a tree does nothing any more, in the background neither."""
    before = cpu_seconds([root])
    while True:
        time.sleep(QUIET_SECONDS)
        now = cpu_seconds([root])
        if now - before <= IDLE_CPU:
            return
        before = now
