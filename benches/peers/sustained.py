"""Load without pause: eight callers at once, each asking for one entity's ten features and for one more that a Python
function makes of them."""

from __future__ import annotations

from dataclasses import replace

import online
from bench import OURS, Bench, Runs, System
from child import Child, Run
from lines import Target, middle, say
from reference import WrongAnswerError

NAME, UNIT = "online.sustained_per_core_s", "requests/CPU-s"
IN_FLIGHT = 8
SECONDS = 10.0
TARGET = Target(10)
SERVE = replace(online.SERVE, note="CPU of feast serve, a worker per core, and of its Redis")


def measure(bench: Bench) -> None:
    """In turns; requests per CPU second of the servers. A request that fails or is wrong ends it."""
    standard = bench.standard
    server, client = standard.ours
    say("sustained load")
    if not (standard.data / "online.npz").exists():
        online.store(bench)
    client.ask("online")
    with bench.opened((SERVE,), standard.data, NAME, UNIT) as peers:
        contenders = [(OURS, client), *peers]
        if bench.options.prove:
            for system, child in contenders:
                with bench.told(NAME, UNIT, system):
                    load(bench, system, child, 0, server.pid)
        tell(bench, bench.in_turns(NAME, UNIT, contenders, lambda *asked: load(bench, *asked, server.pid)))


def load(bench: Bench, system: System, child: Child, turn: int, server: int) -> Run:
    """One stretch of it."""
    seconds = 1.0 if bench.options.quick else SECONDS
    # To prove the check, what is expected of the Python function is wrong.
    step = 2 if bench.options.prove else 1
    measured = server if system is OURS else None
    run = child.run("load", measured=measured, seconds=seconds, in_flight=IN_FLIGHT, seed=turn, step=step)
    requests, errors, first = (run.found[name] for name in ("requests", "errors", "first"))
    say(f"  {system.name}: {requests} requests, {errors} errors, {run.servers:.2f} CPU s")
    if bench.options.prove:
        if errors != requests:
            raise WrongAnswerError("a wrong extracted feature was not noticed")
        bench.refused += 1
    elif errors:
        raise WrongAnswerError(f"{errors} of {requests} requests failed, first: {first}")
    return run


def tell(bench: Bench, runs: Runs) -> None:
    """Ours over theirs."""
    ours = None
    for system, found in runs.items():
        value = middle([one.found["requests"] / one.servers for one in found])
        more = {
            "requests_per_s": middle([one.found["requests"] / one.wall for one in found]),
            "errors": 0,
            "wall_s": middle([one.wall for one in found]),
            "cpu_s": middle([one.servers for one in found]),
            "client_cpu_s": middle([one.cpu - one.servers for one in found]),
            "runs": len(found),
        }
        if system is OURS:
            ours = value
            bench.report.measure(NAME, value, UNIT, **more, **bench.about(system))
        else:
            ratio = ours / value if ours else None
            bench.report.measure(NAME, value, UNIT, ratio=ratio, target=TARGET, **more, **bench.about(system))
