"""`make bench-peers`: Thyme beside what one would pick instead, in one run. JSON lines on standard output, progress on
standard error; exits with 1 if a peer could not be had, a check failed or a request went wrong."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

import events
import export
import online
import sustained
from bench import Bench, Options
from lines import say
from workload import D1

WORKS = {"export": export.measure, "online": online.measure, "sustained": sustained.measure, "events": events.measure}


def main() -> int:
    """All works, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="where tools/peers.sh has put them [.peers]")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), help="only these works")
    parser.add_argument("--quick", action="store_true", help="little data, one run: to try things out, not for figures")
    parser.add_argument(
        "--prove", action="store_true", help="give every check a wrong reference, which it has to notice"
    )
    parser.add_argument("--directory", type=Path, help="where data and states are made [the temporary directory]")
    parser.add_argument("--seed", type=int, default=D1.seed, help="another workload of the same shape")
    given = parser.parse_args()
    # Whoever ends this ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    say(f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}")
    with (
        tempfile.TemporaryDirectory(prefix="thyme-peers-", dir=given.directory) as folder,
        contextlib.ExitStack() as closing,
    ):
        options = Options(given.peers.absolute(), Path(folder), given.quick, given.prove, given.seed)
        bench = Bench(options, closing)
        for name in given.only:
            WORKS[name](bench)
    if options.prove:
        say(f"{bench.refused} checks have noticed their wrong reference")
    for failed in bench.report.failed:
        say(f"error: {failed}")
    return 1 if bench.report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
