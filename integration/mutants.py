"""Proves that the engine's simulation, the crash points and the tests of single rules can fail: each mutant takes one
protection (`protections.py`) out of a copy of the source, and they must notice. A mutant that survives, or no longer
fits the source, fails the run.

    python integration/mutants.py            # all
    python integration/mutants.py fence      # those whose name has "fence" in it
    python integration/mutants.py --tested   # all, where the tests have just passed without a mutant

Ends with one JSON line: mutants, mutants_caught, survivors.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from protections import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PLACE = TARGET / "mutants"
CRATES = ["--release", "--workspace", "--exclude", "thyme-python", "--exclude", "thyme-extract"]
TEST = ["cargo", "--config", "tools/tests.toml", "--config", "tools/mutants.toml", "test", *CRATES]
# Enough for every mutant; what is caught ends with the first seed that shows it.
SEEDS = "200"
ROUNDS = "4"
# Seconds for one mutant once it is compiled, many times what it takes without. The tests count what is done and end by
# themselves: a mutant whose test has no end by then was not noticed.
LONGEST = 900
NO_END = f"no end after {LONGEST} s"


def copy_source() -> Path:
    """The files git knows, in a place of their own, so that no mutant is ever in the real ones."""
    source = PLACE / "src"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if not (source / name).exists():
                # With its time: what the real target directory has compiled from it is still fresh.
                shutil.copy2(ROOT / name, source / name)
            elif (source / name).read_bytes() != (ROOT / name).read_bytes():
                shutil.copyfile(ROOT / name, source / name)
    return source


def seed_target() -> Path:
    """A target directory of its own, with the crates of others that the real one has compiled: cargo knows a crate by
    its place in the workspace, so that they are not compiled again."""
    target = PLACE / "target"
    for part in ("deps", "build", ".fingerprint"):
        compiled = TARGET / "release" / part
        if compiled.is_dir() and not (target / "release" / part).is_dir():
            unneeded = programs if part == "deps" else None
            shutil.copytree(compiled, target / "release" / part, ignore=unneeded, copy_function=link_or_copy)
    return target


def programs(_: str, names: list[str]) -> list[str]:
    """Of the names in `deps`."""
    return [name for name in names if "." not in name]


def link_or_copy(source: str, copy: str) -> None:
    """Crates of others are not compiled again, and large: they are shared."""
    if os.path.getsize(source) > 1 << 20 and "thyme" not in os.path.basename(source):
        with contextlib.suppress(OSError):
            os.link(source, copy)
            return
    shutil.copy2(source, copy)


def run(test: tuple[str, ...], source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    # Incremental: of a crate, what the mutant does not touch is not compiled again.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_INCREMENTAL": "1"}
    environment |= {"SEEDS": SEEDS, "CRASH_ROUNDS": ROUNDS}
    compiled = subprocess.run(
        [*TEST, "--quiet", "--no-run", "--test", test[0]], cwd=source, env=environment, capture_output=True, text=True
    )
    if compiled.returncode != 0:
        raise SystemExit(f"error: it does not compile\n{compiled.stderr[-3000:]}")
    command = [*TEST, "--quiet", "--test", *test]
    # In a group of its own, so that an engine that goes round in circles ends with the rest.
    running = subprocess.Popen(
        command,
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = running.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        stdout, stderr = running.communicate()
        stdout += NO_END
    return subprocess.CompletedProcess(command, running.returncode, stdout, stderr)


def noticed_by(program: str, done: subprocess.CompletedProcess[str]) -> str | None:
    """What a test program that ran to its end has found first; `None` if it found nothing."""
    if program == "crash_points":
        reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        # A case that was never reached fails the program too, and is no difference.
        if not reports or not reports[-1]["differences"]:
            return None
        told = list(itertools.dropwhile(lambda line: not line.startswith("Case {"), done.stderr.splitlines()))
        of_case = itertools.takewhile(lambda line: line.startswith(" "), told[1:])
        first = "\n  ".join([*told[:1], *of_case])
        return f"{reports[-1]['differences']} of {reports[-1]['crash_runs']} runs, first {first}"
    if "test result: FAILED" not in done.stdout:
        return None
    said = (done.stdout + done.stderr).splitlines()
    panics = [" ".join(said[index : index + 2]) for index, line in enumerate(said) if "panicked at" in line]
    seeds = [line for line in said if line.startswith("seed ")]
    return " ".join([*seeds[:1], *panics[:1]])[:300] or "a test failed"


def caught_by(mutant: Mutant, source: Path, target: Path) -> str | None:
    """What noticed it; `None` if it survives."""
    file = source / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"error: the mutant no longer fits the source: {mutant.name} ({mutant.file})")
    try:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = run(mutant.test, source, target)
    finally:
        file.write_text(text, encoding="utf-8")
    found = None if NO_END in done.stdout else noticed_by(mutant.test[0], done)
    if found is None and done.returncode != 0:
        print(f"its test failed, but found no difference:\n{done.stdout[-1000:]}{done.stderr[-3000:]}", file=sys.stderr)
    return found


def check_without(tests: set[tuple[str, ...]], source: Path, target: Path) -> None:
    for test in sorted(tests):
        done = run(test, source, target)
        if done.returncode != 0:
            raise SystemExit(f"error: {test[0]} must pass without a mutant\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        print(f"passes without a mutant: {test[0]}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    wanted = [word for word in arguments if word != "--tested"]
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in wanted)]
    source, target = copy_source(), seed_target()
    if "--tested" not in arguments:
        check_without({mutant.test for mutant in chosen}, source, target)
    survivors = []
    for mutant in chosen:
        began = time.monotonic()
        noticed = caught_by(mutant, source, target)
        outcome = "SURVIVED" if noticed is None else "caught"
        print(f"{outcome}, {time.monotonic() - began:.0f} s: {mutant.name}", file=sys.stderr)
        if noticed is None:
            survivors.append(mutant.name)
        else:
            print(f"  by {noticed}", file=sys.stderr, flush=True)
    report = {"mutants": len(chosen), "mutants_caught": len(chosen) - len(survivors), "survivors": survivors}
    print(json.dumps(report))
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
