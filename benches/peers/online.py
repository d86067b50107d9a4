"""Ten features of one entity and of a hundred, one call at a time: ours and the others from a Python client on the same
machine, all with the same values, which ours computes when it is asked and the others were given."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import OURS, QUICK, Bench, Opened, Runs, System, some
from child import Child, Run
from lines import Target, middle, say
from reference import ONLINE, Reference
from workload import Rows

STORED = "values stored as of the newest event, which do not age"
INPROC = System("feast in process", "feast", "feast_online.py", "inproc", note=STORED)
SERVE = System("feast serve", "feast", "feast_online.py", "serve", note=STORED)
REDIS = System("redis hmget", "redis", "redis_online.py", "hmget", floor=True, note=f"{STORED}; bytes not read")
EMPTY = System("empty grpc unary", "", "thyme_client.py", "client", floor=True, note="health check on our server")
CALLS = {1: 2000, 100: 300}
NAMES = {1: "online.unary", 100: "online.batch100"}
UNITS = {1: "us", 100: "ms"}
NANOSECONDS = {"us": 1e3, "ms": 1e6}
OUR_TARGETS = {100: Target(0.8, is_least=False)}
# Theirs over ours, at the median.
TARGETS = {(1, EMPTY): Target(0.5), (1, INPROC): Target(1), (100, SERVE): Target(15), (100, REDIS): Target(0.25)}


def store(bench: Bench) -> dict[str, np.ndarray]:
    """The ten features of every key as of the newest event, in a file for those that have to be given them."""
    standard = bench.standard
    keys = np.unique(standard.events.key)
    newest = Rows(keys, np.full(len(keys), standard.events.time.max()))
    # Right even where the references are to be wrong: it is data.
    found = Reference(standard.events).answers(newest)
    stored = {"keys": keys, **{name: found[name] for name in ONLINE}}
    np.savez(standard.data / "online.npz", **stored)
    return stored


def measure(bench: Bench) -> None:
    """Both sizes of question, in turns."""
    standard = bench.standard
    server, client = standard.ours
    say("online questions")
    stored = store(bench)
    client.ask("online")
    with bench.opened((INPROC, SERVE, REDIS), standard.data, f"{NAMES[1]}_p50_us", "us") as peers:
        for entities in CALLS:
            measure_size(bench, entities, [(OURS, client), *peers], stored, server.pid)


def measure_size(bench: Bench, entities: int, opened: Opened, stored: dict[str, np.ndarray], server: int) -> None:
    """So many entities per call."""
    name, unit = f"{NAMES[entities]}_p50_{UNITS[entities]}", UNITS[entities]
    chosen = some(len(stored["keys"]), 19)
    keys = stored["keys"][chosen].tolist()
    # Of other keys they are wrong, which the checks have to see.
    expected = {name: stored[name][chosen - 1 if bench.options.prove else chosen] for name in ONLINE}

    def answers(system: System, child: Child) -> dict[str, Any]:
        say(f"  {system.name}, {entities}")
        return child.answers(keys=keys, entities=entities)

    def run(system: System, child: Child, turn: int) -> Run:
        asked = {"calls": calls, "seed": turn}
        if system is EMPTY:
            return child.run("empty", measured=server, **asked)
        return child.run(measured=server if system is OURS else None, entities=entities, **asked)

    right = bench.checked(name, unit, opened, lambda _: ONLINE, answers, expected)
    if entities == 1 and right and right[0][0] is OURS:
        right.insert(1, (EMPTY, right[0][1]))
    calls = CALLS[entities] // (QUICK if bench.options.quick else 1)
    runs = bench.in_turns(name, unit, right, run)
    for part in ("p50", "p99"):
        tell(bench, entities, part, runs)


def tell(bench: Bench, entities: int, part: str, runs: Runs) -> None:
    """One percentile: of each run, and of the runs the median. CPU is that of client and servers over a whole run."""
    unit = UNITS[entities]
    name = f"{NAMES[entities]}_{part}_{unit}"
    ours = None
    for system, found in runs.items():
        taken = [np.array(one.found["taken"]) / NANOSECONDS[unit] for one in found]
        value = middle([float(np.percentile(one, int(part[1:]))) for one in taken])
        more = {"cpu_s": middle([one.cpu for one in found]), "runs": len(found), "calls": len(taken[0])}
        about = more | bench.about(system)
        if system is OURS:
            ours = value
            target = OUR_TARGETS.get(entities) if part == "p50" else None
            bench.report.measure(name, value, unit, target=target, **about)
        else:
            ratio = value / ours if ours else None
            target = TARGETS.get((entities, system)) if part == "p50" else None
            bench.report.measure(name, value, unit, ratio=ratio, target=target, **about)
