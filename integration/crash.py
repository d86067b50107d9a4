"""`make crash`: the simulation at length, the crash points, the mutants, and the storm on a real broker, in this order.
`SEEDS` (20,000) scales all of it.

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
CRATES = ["--workspace", "--exclude", "thyme-python", "--exclude", "thyme-extract"]
# Of `SEEDS`: a full run has eight rounds of the crash points, and the storm in its full strength.
ROUND = 2_500
FULL = 20_000


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
    command = ["cargo", "test", "--release", *CRATES, "--test", "simulation"]
    code, _ = call(f"the simulation, {SEEDS} seeds", command, SEEDS=str(SEEDS))
    # It ends with the first seed that differs.
    return code, {"seeds": SEEDS, "divergences": 0 if code == 0 else 1}


def points() -> tuple[int, dict[str, Any]]:
    rounds = max(1, SEEDS // ROUND)
    command = ["cargo", "test", "--release", *CRATES, "--test", "crash_points"]
    code, output = call(f"the crash points, {rounds} rounds", command, CRASH_ROUNDS=str(rounds))
    return code, report_of(output)


def mutants() -> tuple[int, dict[str, Any]]:
    # That all passes without a mutant, the parts before have shown or said.
    code, output = call("the mutants", [sys.executable, "integration/mutants.py", "--tested"])
    return code, report_of(output)


def storm() -> tuple[int, dict[str, Any]]:
    def share(full: int, least: int) -> str:
        return str(max(least, full * SEEDS // FULL))

    strength = ["--events", share(1_000_000, 20_000), "--kills", share(105, 3)]
    strength += ["--broker-kills", share(10, 1), "--pauses", share(10, 1)]
    code, output = call("two servers and a broker", [sys.executable, "integration/storm.py", *strength])
    return code, report_of(output)


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
    return 1 if any(code for code, _ in parts) else 0


if __name__ == "__main__":
    sys.exit(main())
