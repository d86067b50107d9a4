"""`make crash`: the simulation at length, the crash points, the mutants, and the storms on a real broker, in order.
`SEEDS` (20,000) scales all of it. A run of that length fails too if it falls short of what it is to reach.

Ends with one JSON line: seeds, divergences, crash_runs, lost, doubled, sigkills, broker_kills, pauses, events, mutants,
mutants_caught, recovery_p99_s, seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEEDS = int(os.environ.get("SEEDS", "20000"))
CRATES = ["--release", "--workspace", "--exclude", "thyme-python", "--exclude", "thyme-extract"]
# The same programs as those of `make test-rust`.
TEST = ["cargo", "--config", "tools/tests.toml", "test", *CRATES, "--test"]
# Of `SEEDS`: a full run has eight rounds of the crash points, and the storm in its full strength.
ROUND = 2_500
FULL = 20_000
# What a full run must reach, and how long the slowest of a hundred warm recoveries may take.
LEAST = {"crash_runs": 1_000, "sigkills": 100, "broker_kills": 10, "pauses": 10, "events": 1_000_000, "mutants": 10}
RECOVERY_S = 5.0
# And how long all of it may take on two cores.
LONGEST_S = 100 * 60


def call(what: str, command: list[str], **environment: str) -> tuple[int, str]:
    print(f"== {what}", file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    print(f"   {'passed' if done.returncode == 0 else 'FAILED'}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    if done.returncode != 0:
        print(done.stdout[-6000:], file=sys.stderr)
    return done.returncode, done.stdout


def report_of(output: str) -> dict[str, Any]:
    """The last line of JSON that a part has printed; nothing if it did not come so far."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def simulation() -> tuple[int, dict[str, Any]]:
    # One form more than there are cores: each waits now and then, for its locks and its memory.
    threads = str((os.cpu_count() or 1) + 1)
    named = f"the simulation, {SEEDS} seeds"
    code, output = call(named, [*TEST, "simulation"], SEEDS=str(SEEDS), RUST_TEST_THREADS=threads)
    if code != 0 and "test result: FAILED" not in output:
        return code, {"seeds": 0}
    # It ends with the first seed that differs.
    return code, {"seeds": SEEDS, "divergences": 0 if code == 0 else 1}


def points() -> tuple[int, dict[str, Any]]:
    rounds = max(1, SEEDS // ROUND)
    code, output = call(f"the crash points, {rounds} rounds", [*TEST, "crash_points"], CRASH_ROUNDS=str(rounds))
    return code, report_of(output)


def mutants() -> tuple[int, dict[str, Any]]:
    # That all passes without a mutant, the parts before have shown or said.
    code, output = call("the mutants", [sys.executable, "integration/mutants.py", "--tested"])
    return code, report_of(output)


def storm() -> tuple[int, dict[str, Any]]:
    """Half of it with one slice, half with four, which the servers share."""

    def share(full: int, least: int) -> str:
        return str(max(least, full * SEEDS // FULL // 2))

    strength = ["--events", share(1_000_000, 20_000), "--kills", share(110, 3)]
    strength += ["--broker-kills", share(10, 1), "--pauses", share(10, 1)]
    halves = []
    for slices in ("1", "4"):
        command = [sys.executable, "integration/storm.py", *strength, "--slices", slices]
        code, output = call(f"two servers and a broker, slices: {slices}", command)
        print(f"   {json.dumps(report_of(output))}", file=sys.stderr)
        halves.append((code, report_of(output)))
    counts = ["events", "sigkills", "broker_kills", "pauses", "lost", "doubled"]
    found = {name: sum(report.get(name, 0) for _, report in halves) for name in counts}
    # None where a half did not come to its end.
    slowest = [report.get("recovery_p99_s") for _, report in halves]
    found["recovery_p99_s"] = None if None in slowest else max(slowest)
    return next((code for code, _ in halves if code), 0), found


def shortfalls(found: dict[str, Any], seeds: int = FULL) -> list[str]:
    """What a full run, or a longer one, has not reached."""
    short = [f"{name} {found.get(name)} < {least}" for name, least in LEAST.items() if (found.get(name) or 0) < least]
    recovery = found.get("recovery_p99_s")
    if recovery is None or recovery > RECOVERY_S:
        short.append(f"recovery_p99_s {recovery} > {RECOVERY_S}")
    # More seeds may take as much longer.
    longest = LONGEST_S * seeds // FULL
    if found["seconds"] > longest:
        short.append(f"seconds {found['seconds']} > {longest}")
    return short


def main() -> int:
    began = time.monotonic()
    parts = [part() for part in (simulation, points, mutants, storm)]
    reports = [report for _, report in parts]
    found = {name: value for report in reports for name, value in report.items()}
    found["lost"] = sum(report.get("lost", 0) for report in reports)
    found["doubled"] = sum(report.get("doubled", 0) for report in reports)
    found["seconds"] = round(time.monotonic() - began)
    names = ["seeds", "divergences", "crash_runs", "lost", "doubled", "sigkills", "broker_kills", "pauses", "events"]
    names += ["mutants", "mutants_caught", "recovery_p99_s", "seconds"]
    print(json.dumps({name: found.get(name) for name in names}))
    short = shortfalls(found, SEEDS) if SEEDS >= FULL else []
    for what in short:
        print(f"falls short: {what}", file=sys.stderr)
    return 1 if short or any(code for code, _ in parts) else 0


if __name__ == "__main__":
    sys.exit(main())
