"""rust_tests.py JOBS CARGO-ARGUMENTS… [-- TEST-ARGUMENTS…]: `cargo test`, with JOBS test programs at a time.

Many of ours wait for a broker or a database; cargo runs one program after the other. Those that start them (`tests/…`)
begin first, for they take longest. What a program prints is shown when it ends; the seconds each took, at the end.
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


@dataclass
class Program:
    """A compiled test program, and how cargo would start it: in its package's folder, with its name and version."""

    path: str
    target: str
    is_unit: bool
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
        folder = Path(message["manifest_path"]).parent
        programs.append(
            Program(
                path=message["executable"],
                target=f"{folder.name}::{message['target']['name']}",
                is_unit="test" not in message["target"]["kind"],
                folder=folder,
                package=identity[1] or folder.name,
                version=identity[2],
            )
        )
    return sorted(programs, key=lambda program: program.is_unit)


def main() -> int:
    jobs, *cargo = sys.argv[1:]
    arguments: list[str] = []
    if "--" in cargo:
        place = cargo.index("--")
        cargo, arguments = cargo[:place], cargo[place + 1 :]
    took: list[tuple[float, str]] = []
    failed: list[str] = []
    with ThreadPoolExecutor(int(jobs)) as pool:
        running = {pool.submit(program.run, arguments): program for program in compiled(cargo)}
        for done in as_completed(running):
            program = running[done]
            code, output, seconds = done.result()
            print(f"== {program.target}\n{output.strip()}", flush=True)
            took.append((seconds, program.target))
            if code:
                failed.append(f"{program.target} (exit {code})")
    print("slowest: " + ", ".join(f"{target} {seconds:.0f} s" for seconds, target in sorted(took, reverse=True)[:8]))
    if failed:
        print("failed: " + ", ".join(sorted(failed)))
        return 1
    print(f"{len(took)} test programs passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
