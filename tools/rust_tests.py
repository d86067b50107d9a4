"""rust_tests.py CARGO-ARGUMENTS… [-- TEST-ARGUMENTS…]: `cargo test`, two test programs at a time.

Many of ours wait for a broker or a database; cargo runs one after the other. What a program prints is shown when
it ends; the seconds each took, at the end.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

JOBS = 2
# They take the longest, so they begin first.
LONG = [
    "simulation",
    "thyme_sources",
    "properties",
    "crash_points",
    "kafka",
    "state",
    "history",
    "history_points",
    "slices",
]


@dataclass
class Program:
    """A compiled test program, and how cargo would start it: in its package's folder, with its name and version."""

    path: str
    target: str
    place: int
    folder: Path
    package: str
    version: str

    def run(self, arguments: list[str]) -> tuple[int, str, float]:
        """Exit code, output, seconds."""
        env = os.environ | {
            "CARGO_PKG_NAME": self.package,
            "CARGO_PKG_VERSION": self.version,
            "CARGO_MANIFEST_DIR": str(self.folder),
        }
        begin = time.monotonic()
        done = subprocess.run(
            [self.path, "--quiet", *arguments],
            cwd=self.folder,
            env=env,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        return done.returncode, done.stdout, time.monotonic() - begin


def compiled(cargo: list[str]) -> list[Program]:
    """The test programs, compiled; cargo's own messages go to the terminal."""
    command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics", *cargo]
    build = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if build.returncode:
        sys.exit(build.returncode)
    programs = []
    for line in build.stdout.splitlines():
        message = json.loads(line)
        if not message.get("executable") or not message["profile"]["test"]:
            continue
        identity = re.search(r"#(?:(.+)@)?([^@]+)$", message["package_id"])
        folder, name = Path(message["manifest_path"]).parent, message["target"]["name"]
        programs.append(
            Program(
                path=message["executable"],
                target=f"{folder.name}::{name}",
                place=LONG.index(name) if name in LONG else len(LONG),
                folder=folder,
                package=identity[1] or folder.name,
                version=identity[2],
            )
        )
    return sorted(programs, key=lambda program: program.place)


def run_all(programs: list[Program], arguments: list[str]) -> list[str]:
    """Runs the programs; those that failed, with their exit codes."""
    took: list[tuple[float, str]] = []
    failed: list[str] = []
    with ThreadPoolExecutor(JOBS) as pool:
        running = {pool.submit(program.run, arguments): program for program in programs}
        for done in as_completed(running):
            program = running[done]
            code, output, seconds = done.result()
            print(f"== {program.target}\n{output.strip()}", flush=True)
            took.append((seconds, program.target))
            if code:
                failed.append(f"{program.target} (exit {code})")
    print("slowest: " + ", ".join(f"{target} {seconds:.0f} s" for seconds, target in sorted(took, reverse=True)[:8]))
    if not failed:
        print(f"{len(took)} Rust test programs passed", flush=True)
    return failed


def main() -> int:
    cargo, arguments = sys.argv[1:], []
    if "--" in cargo:
        place = cargo.index("--")
        cargo, arguments = cargo[:place], cargo[place + 1 :]
    failed = run_all(compiled(cargo), arguments)
    if failed:
        print("failed: " + ", ".join(sorted(failed)))
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
