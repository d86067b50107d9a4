"""Sliding windows over events. The peers give values for each event. Ours takes the events in, durably, and its state
then answers for any key and time; that is measured alone, and together with an export of the values of each event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import workload
from bench import OURS, Bench, Opened, Runs, System, some
from child import Child, Run
from lines import Target, middle, say
from reference import AMOUNTS, CENTS, columns
from thyme_server import ThymeServer
from workload import D5, WINDOWS, Rows

SO_FAR = "over the events that had come by then"
BYTEWAX = System("bytewax stateful_map", "bytewax", "bytewax_events.py", "map", CENTS, note=f"in memory, {SO_FAR}")
FLINK = System(
    "flink sql over", "flink", "flink_events.py", "over", CENTS, note="state on the heap; less the job's start"
)
KERNEL = System("python kernel", "numpy", "kernel_events.py", "loop", CENTS, floor=True, note=f"in memory, {SO_FAR}")
UNIT = "events/CPU-s"
NAME, WITH_VALUES = "events.d1_per_cpu_s", "events.d1_with_values_per_cpu_s"
D5_NAME, RATIO_NAME = "events.d5_per_cpu_s", "events.window_cost_ratio"
NOTES = {
    NAME: "ingest, log and durable state; values are computed when asked for",
    WITH_VALUES: "the same, and the values of each event asked for in one export",
}
TARGETS = {NAME: Target(500_000), D5_NAME: Target(350_000), RATIO_NAME: Target(1.2, is_least=False)}
EACH = list(WINDOWS)
TICK = 0.01


def measure(bench: Bench) -> None:
    """The standard workload in turns with the peers, then ours with one window, then the larger workload."""
    standard = bench.standard
    say("sliding windows")
    chosen = some(len(standard.events), 23)
    client = bench.open(OURS, standard.data)
    ours = Ours(bench, client, standard.events, chosen, bench.options.folder)

    def run(system: System, child: Child, _turn: int) -> Run:
        return ours.ingested(EACH, with_values=True) if system is OURS else less_start(system, child, child.run())

    with bench.opened((BYTEWAX, FLINK, KERNEL), standard.data, NAME, UNIT) as peers:
        right = [(OURS, client), *checked(bench, peers, standard.events, chosen)]
        runs = bench.in_turns(NAME, UNIT, right, run)
    tell(bench, NAME, runs)
    tell(bench, WITH_VALUES, runs)
    if bench.options.prove:
        with bench.told(NAME, UNIT, OURS):
            ours.ingested(EACH)
    else:
        tell_ratio(bench, ours)
        measure_d5(bench)


class Ours:
    """Servers that begin with nothing and take in a workload."""

    def __init__(self, bench: Bench, client: Child, events: Rows, chosen: np.ndarray, folder: Path) -> None:
        self.bench, self.client, self.folder = bench, client, folder / f"ingest{len(events)}"
        asked = events.take(chosen)
        asked.cents = None
        asked.write(client.data, "places")
        self.expected = bench.reference(events).answers(asked)

    def ingested(self, windows: list[str], with_values: bool = False) -> Run:
        """One more server: its CPU seconds, background work included, and seconds until all was in state; and the CPU
        seconds of an export of the values of each event, if told so."""
        server = ThymeServer(self.folder)
        try:
            self.client.ask("open", **server.urls)
            self.client.ask("commit", windows=windows)
            server.wait_until_quiet()
            before, started = server.cpu_seconds(), time.perf_counter()
            self.client.ask("ingest")
            wall = time.perf_counter() - started
            server.wait_until_quiet()
            cpu = server.cpu_seconds() - before
            say(f"  thyme, {', '.join(windows)}: {cpu:.2f} CPU s")
            found = self.client.answers("joined_answers", spine="places", windows=windows)
            self.bench.check(self.expected, found, columns(AMOUNTS, windows))
            values = self.client.run("export", measured=server.pid, spine="events").servers if with_values else 0.0
        finally:
            server.close()
        return Run(wall, cpu, cpu, found={"values": values})


def checked(bench: Bench, peers: Opened, events: Rows, chosen: np.ndarray) -> Opened:
    """Whose values are right."""
    reference, asked = bench.reference(events), events.take(chosen)
    complete, so_far = reference.answers(asked), reference.answers(asked, seen_until=chosen + 1)

    def answers(system: System, child: Child) -> dict[str, np.ndarray]:
        say(f"  {system.name}")
        return child.answers(places=chosen.tolist())

    def names(system: System) -> Sequence[str]:
        return columns(system.columns)

    return bench.checked(NAME, UNIT, peers, names, answers, lambda system: complete if system is FLINK else so_far)


def less_start(system: System, child: Child, run: Run) -> Run:
    """Of a job: what it costs before the first event is not counted."""
    if system is FLINK:
        start = child.run("start")
        run.cpu, run.wall = max(run.cpu - start.cpu, TICK), max(run.wall - start.wall, TICK)
    return run


def tell(bench: Bench, name: str, runs: Runs) -> None:
    """Events per CPU second: of the server of ours, of the whole process of the others."""
    events, ours = len(bench.standard.events), None
    for system, found in runs.items():
        if system is OURS:
            ours = tell_ours(bench, name, found, events)
            continue
        cpu = middle([one.cpu for one in found])
        more = {"wall_s": middle([one.wall for one in found]), "cpu_s": cpu, "runs": len(found), **bench.about(system)}
        bench.report.measure(name, events / cpu, UNIT, ratio=ours * cpu / events if ours else None, **more)


def tell_ours(bench: Bench, name: str, runs: list[Run], events: int) -> float:
    """The value."""
    with_values = name == WITH_VALUES
    cpu = middle([one.cpu + (one.found["values"] if with_values else 0.0) for one in runs])
    more = {"wall_s": None if with_values else middle([one.wall for one in runs]), "cpu_s": cpu, "runs": len(runs)}
    about = bench.about(OURS) | {"note": NOTES.get(name, NOTES[NAME])}
    bench.report.measure(name, events / cpu, UNIT, target=TARGETS.get(name), **more, **about)
    return events / cpu


def tell_ratio(bench: Bench, ours: Ours) -> None:
    """What seven days cost over what an hour costs, taken in turns."""
    with bench.told(RATIO_NAME, "ratio", OURS):
        ratios = [ours.ingested(["7d"]).cpu / ours.ingested(["1h"]).cpu for _ in range(bench.options.runs)]
        about = {"runs": len(ratios), **bench.about(OURS)}
        bench.report.measure(RATIO_NAME, middle(ratios), "ratio", target=TARGETS[RATIO_NAME], **about)


def measure_d5(bench: Bench) -> None:
    """5M events on about 400,000 keys."""
    with bench.told(D5_NAME, UNIT, OURS):
        data = bench.options.folder / "d5"
        events, _ = workload.write(bench.scaled(D5), data)
        client = bench.open(OURS, data)
        ours = Ours(bench, client, events, some(len(events), 29), bench.options.folder)
        tell_ours(bench, D5_NAME, [ours.ingested(EACH) for _ in range(bench.options.runs)], len(events))
        client.close()
