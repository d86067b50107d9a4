"""Point-in-time join of spines with the windows of 1M events: ours end to end over Flight, the others over tables that
they have in memory."""

from __future__ import annotations

from typing import Any

from bench import OURS, Bench, Opened, Runs, System, some
from child import Child, Run
from lines import Target, middle, say
from reference import AMOUNTS, CENTS, CENTS_WITHOUT_MAX, WrongAnswerError, columns
from workload import SPINES

NO_MAX = "without Max, which running sums cannot have"
PEERS = (
    System("duckdb range", "duckdb", "duckdb_join.py", "range", CENTS),
    System("duckdb asof", "duckdb", "duckdb_join.py", "asof", CENTS_WITHOUT_MAX, note=NO_MAX),
    System("polars rolling", "polars", "polars_join.py", "rolling", CENTS),
    System("polars asof", "polars", "polars_join.py", "asof", CENTS_WITHOUT_MAX, note=NO_MAX),
    System("pandas rolling", "pandas", "pandas_join.py", "rolling", CENTS),
    System("numpy kernel", "numpy", "numpy_join.py", "kernel", CENTS, floor=True),
)
UNIT = "rows/CPU-s"
TARGETS = {"sorted": Target(1_000_000), "random": Target(500_000), "sparse": Target(40_000)}
ABOVE_EVERY_PEER = {"sorted": Target(1), "random": Target(1)}
# A sparse spine is answered within a few ticks of the CPU's clock: ours is asked so often in one run.
REPEATED = {"sparse": 20}
MEMORY = "export.peak_rss_mb"
LESS_THAN = "duckdb range"
TICK = 0.01


def name_of(spine: str) -> str:
    """Of the measure."""
    return f"export.{spine}_rows_per_cpu_s"


def measure(bench: Bench) -> None:
    """Spine by spine, the systems in turns."""
    standard = bench.standard
    server, client = standard.ours
    say("point-in-time join")
    with bench.opened(PEERS, standard.data, name_of("sorted"), UNIT) as peers:
        for spine in SPINES:

            def run(system: System, child: Child, _turn: int, spine: str = spine) -> Run:
                server.wait_until_quiet()
                if system is OURS:
                    return child.run("export", measured=server.pid, spine=spine, times=REPEATED.get(spine, 1))
                return child.run(spine=spine)

            right = checked(bench, spine, [(OURS, client), *peers])
            runs = bench.in_turns(name_of(spine), UNIT, right, run)
            tell(bench, spine, runs)
            if spine == "sorted":
                tell_memory(bench, runs)


def checked(bench: Bench, spine: str, opened: Opened) -> Opened:
    """Whose join is right."""
    asked = bench.standard.spines[spine]
    chosen = some(len(asked), 17)
    expected = bench.standard.reference.answers(asked.take(chosen))

    def answers(system: System, child: Child) -> dict[str, Any]:
        say(f"  {system.name}, {spine}")
        found = child.answers("joined_answers" if system is OURS else "answers", spine=spine)
        for name, values in found.items():
            if len(values) != len(asked):
                raise WrongAnswerError(f"{name} has {len(values)} rows where {len(asked)} were asked for")
        return {name: values[chosen] for name, values in found.items()}

    def names(system: System) -> list[str]:
        return columns(AMOUNTS if system is OURS else system.columns)

    return bench.checked(name_of(spine), UNIT, opened, names, answers, expected)


def tell(bench: Bench, spine: str, runs: Runs) -> None:
    """Rows per CPU second: of the server of ours, of the whole process of the others."""
    name, rows = name_of(spine), len(bench.standard.spines[spine])
    ours = None
    for system, found in runs.items():
        times = REPEATED.get(spine, 1) if system is OURS else 1
        cpu = max(middle([one.servers if system is OURS else one.cpu for one in found]), TICK) / times
        more = {"wall_s": middle([one.wall for one in found]) / times, "cpu_s": cpu, "runs": len(found)}
        value = rows / cpu
        if system is OURS:
            ours = value
            more["client_cpu_s"] = middle([one.cpu - one.servers for one in found]) / times
            bench.report.measure(name, value, UNIT, target=TARGETS[spine], **more, **bench.about(system))
        else:
            ratio = ours / value if ours else None
            target = ABOVE_EVERY_PEER.get(spine)
            bench.report.measure(name, value, UNIT, ratio=ratio, target=target, **more, **bench.about(system))


def tell_memory(bench: Bench, runs: Runs) -> None:
    """The most that was resident during a join of the sorted spine: of ours server and client together."""
    ours = None
    for system, found in runs.items():
        peak, more = max(one.peak_mb for one in found), {"runs": len(found), **bench.about(system)}
        if system is OURS:
            ours = peak
            more |= {"server_mb": max(one.servers_peak_mb for one in found), "note": "server and client together"}
            bench.report.measure(MEMORY, peak, "MB", **more)
        else:
            target = Target(1) if system.name == LESS_THAN else None
            bench.report.measure(MEMORY, peak, "MB", ratio=peak / ours if ours else None, target=target, **more)
