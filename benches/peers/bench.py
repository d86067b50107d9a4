"""What all works share: options, the peers' processes, checks, and Thyme with the standard workload in state."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import workload
from child import Child, PeerError, Run
from lines import Report, say
from reference import SAMPLE, Reference, WrongAnswerError, check
from thyme_server import ThymeServer
from workload import D1, Rows, Shape

QUICK = 20  # a quick run has so many times fewer events


@dataclass(frozen=True)
class System:
    """A peer: its environment, what is started there, and which columns it answers with.

    `floor`: a limit and no rival. `note`: what it does differently.
    """

    name: str
    environment: str
    script: str
    method: str
    columns: Sequence[str] = ()
    floor: bool = False
    note: str | None = None


OURS = System("thyme", "", "thyme_client.py", "client")
Opened = list[tuple[System, Child]]
Runs = dict[System, list[Run]]


@dataclass(frozen=True)
class Options:
    """The command line. `prove`: the reference is made wrong, and every check has to see it; nothing is timed."""

    peers: Path
    folder: Path
    quick: bool
    prove: bool
    seed: int

    @property
    def runs(self) -> int:
        """Of which the median is taken."""
        return 1 if self.quick else 5


class Bench:
    """One run of everything."""

    def __init__(self, options: Options, closing: contextlib.ExitStack) -> None:
        self.options, self.closing = options, closing
        self.report = Report()
        self.refused = 0
        self.versions: dict[System, str] = {}

    def scaled(self, shape: Shape) -> Shape:
        """The shape of this run."""
        divisor = QUICK if self.options.quick else 1
        events, keys, spine = (number // divisor for number in (shape.events, shape.keys, shape.spine))
        return replace(shape, events=events, keys=keys, spine=spine, seed=self.options.seed)

    def open(self, system: System, data: Path) -> Child:
        """Its process, which ends when all does at the latest."""
        say(f"  {system.name} loads")
        python = self.options.peers / system.environment / "bin" / "python" if system.environment else sys.executable
        child = Child(Path(python), system.script, data, system.method)
        self.versions[system] = child.version
        self.closing.callback(child.close)
        return child

    @contextlib.contextmanager
    def opened(self, systems: Iterable[System], data: Path, name: str, unit: str) -> Iterator[Opened]:
        """The processes of those that can be had; for the others there is an error instead of a figure."""
        found: Opened = []
        for system in systems:
            with self.told(name, unit, system):
                found.append((system, self.open(system, data)))
        try:
            yield found
        finally:
            for _, child in found:
                child.close()

    @contextlib.contextmanager
    def told(self, name: str, unit: str, system: System) -> Iterator[None]:
        """What goes wrong with a system becomes a line, and the others go on."""
        try:
            yield
        except (PeerError, WrongAnswerError) as error:
            peer = None if system is OURS else system.name
            self.report.error(name, unit, peer, error, system.floor)

    def checked(
        self,
        name: str,
        unit: str,
        opened: Opened,
        names: Callable[[System], Sequence[str]],
        answers: Callable,
        expected: Any,
    ) -> Opened:
        """Those whose answers are right, in order. `expected`: by system, or for all."""
        right = []
        for system, child in opened:
            with self.told(name, unit, system):
                wanted = expected(system) if callable(expected) else expected
                self.check(wanted, answers(system, child), names(system))
                right.append((system, child))
        return right

    def in_turns(self, name: str, unit: str, opened: Opened, run: Callable[[System, Child, int], Run]) -> Runs:
        """One run of each system, and again. Who fails is told and left out, with what it did before."""
        found: Runs = {system: [] for system, _ in opened}
        for turn in range(0 if self.options.prove else self.options.runs):
            for system, child in opened:
                if system in found:
                    with self.told(name, unit, system):
                        done = found.pop(system)
                        found[system] = [*done, run(system, child, turn)]
        return {system: found[system] for system, _ in opened if found.get(system)}

    def check(self, expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], names: Iterable[str]) -> None:
        """As `reference.check`; of a reference that was made wrong it has to say so."""
        try:
            check(expected, found, names)
        except WrongAnswerError as error:
            if not self.options.prove:
                raise
            self.refused += 1
            say(f"    refused: {error}")
        else:
            if self.options.prove:
                raise WrongAnswerError("a wrong reference was not noticed")

    def about(self, system: System) -> dict[str, Any]:
        """What the lines of a peer, or ours, say of it."""
        peer = None if system is OURS else system.name
        return {"peer": peer, "floor": system.floor, "note": system.note, "version": self.versions.get(system)}

    def reference(self, events: Rows) -> Reference:
        """The brute force; made wrong by the other bound where that is to be proven."""
        return Reference(events, exclusive=self.options.prove)

    @cached_property
    def standard(self) -> Standard:
        """Made once."""
        return Standard(self)


class Standard:
    """The standard workload, and a server of ours that has it in state, with a client."""

    def __init__(self, bench: Bench) -> None:
        say("the standard workload")
        self.bench = bench
        self.data = bench.options.folder / "standard"
        self.events, self.spines = workload.write(bench.scaled(D1), self.data)
        self.reference = bench.reference(self.events)

    @cached_property
    def ours(self) -> tuple[ThymeServer, Child]:
        """Started where it is needed."""
        bench = self.bench
        server = ThymeServer(bench.options.folder / "thyme")
        bench.closing.callback(server.close)
        client = bench.open(OURS, self.data)
        client.ask("open", **server.urls)
        client.ask("commit", windows=list(workload.WINDOWS))
        client.ask("ingest")
        server.wait_until_quiet()
        return server, client


def some(length: int, seed: int) -> np.ndarray:
    """What is looked at of so many answers."""
    return np.sort(workload.Random(seed).sample(length, min(length, SAMPLE)))
