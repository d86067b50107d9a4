"""The whole job on real data: define, stream, serve, kill, prove, train.

Streams the flights of 2013 out of New York into a server of its own, and checks every promise on the way.
Exits with 1 if one is broken. The last line of standard output is the result as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import check
import data
import parity
import restart
import show
import stream
import training
from report import Report
from server import Server

from thyme.errors import ThymeError

if TYPE_CHECKING:
    import pandas as pd

FEATURES = Path(__file__).resolve().parent / "features.py"
ALL_FLIGHTS = 336_776
QUESTIONS = 10_000
CATCH_UP_SECONDS = 600.0
ROWS_TO_LEARN_FROM = 100_000  # fewer do not say which model is better


def main() -> int:
    options = _options()
    report = Report()
    folder = options.folder.resolve()
    served, left_alone = Server(folder / "data", options.port), Server(folder / "uninterrupted")
    try:
        result = _run(options, report, folder, served, left_alone)
        if options.keep and not report.failures:
            report.say(f"\nthe server goes on at {served.url}; Ctrl-C stops it")
            print(json.dumps(result), flush=True)
            with suppress(KeyboardInterrupt):
                served.wait()
            return 0
    except KeyboardInterrupt:
        return 130
    except (ThymeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        served.stop()
        left_alone.stop()
    if report.failures:
        print("error: " + "; ".join(report.failures), file=sys.stderr)
    print(json.dumps(result), flush=True)
    return 1 if report.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--flights", type=int, default=ALL_FLIGHTS, metavar="N", help="only the first N flights")
    parser.add_argument("--folder", type=Path, default=Path(".thyme-demo"), help="where everything goes [.thyme-demo]")
    parser.add_argument("--port", type=int, help="control port, the next one for queries [free ones]")
    parser.add_argument("--keep", action="store_true", help="leave the server running at the end")
    options = parser.parse_args()
    if options.flights < 1:
        parser.error("--flights: at least 1")
    return options


def _run(
    options: argparse.Namespace, report: Report, folder: Path, served: Server, left_alone: Server
) -> dict[str, Any]:
    report.section("Data: every flight that was to leave New York in 2013")
    flights = data.load(report.say).head(options.flights)
    report.say(f"{len(flights):,} flights, {int(flights['departed'].isna().sum()):,} of them never left")

    report.section("A server, and the definitions")
    for part in (served, left_alone):
        shutil.rmtree(part.data, ignore_errors=True)
        part.log.unlink(missing_ok=True)
    _serve_and_commit(served, report)

    report.section("Streaming in the order of the schedule, with questions, and with a SIGKILL in the middle")
    questions = min(QUESTIONS, max(len(flights) // 10, 1))
    with _streaming(served, flights, report) as (client, advance):
        recorder = parity.Recorder(served, flights, questions)
        killer = restart.Killer(served, len(flights) // 2)

        def after(seen: int, events: int) -> None:
            advance(events)
            recorder.reached(seen)
            killer.reached(seen)

        sent = stream.send(client, flights, after)
        killer.finish()
        recorded = recorder.finish()
    report.say(f"killed with SIGKILL at flight {len(flights) // 2:,}; back after {killer.down_seconds:.1f} s")
    counted = _caught_up(served, sent)
    accepted, late = (sum(numbers) for numbers in zip(*counted.values(), strict=True))
    report.claim(sent.rejected == 0, f"{sent.events:,} events sent, {sent.rejected:,} refused")
    report.claim(accepted + late == sent.events, f"{accepted:,} accepted, {late:,} too late: nothing lost or doubled")

    report.section("One aircraft, now and earlier")
    tailnum = show.busiest_lately(flights)
    earlier = flights["scheduled"].iloc[len(flights) // 2].to_pydatetime()
    show.one_aircraft(served, report, tailnum, earlier)

    report.section(f"{len(recorded):,} recorded online answers, asked again with their ts and known_at")
    with report.progress("asked again", len(recorded), "answers") as advance:
        again = parity.ask_again(served, recorded, advance)
    report.claim(again.differences == 0, f"{again.differences} of {again.asked:,} differ")
    if again.example:
        report.say(again.example)
    report.say(f"{again.differs_by_ts_alone:,} differ by ts alone: events of earlier times came in afterwards")

    report.section("The same stream into a server that nobody kills")
    different = _compare(served, left_alone, flights, counted, report)
    report.claim(not different, f"{len(different)} differences between the killed server and the other")
    if different:
        report.say("\n".join(different[:3]))

    report.section("The training set over Arrow Flight, and a small model")
    output = folder / "training.parquet"
    began = time.monotonic()
    with served.client() as client:
        table = training.export(client, flights, output)
    took = time.monotonic() - began
    report.say(f"{len(table):,} rows, {len(table.column_names)} columns in {took:.1f} s: {output}")
    report.claim(training.has_all_rows(table, flights), "the training set has every departure, in order")
    wrong = check.wrong(table, flights)
    report.claim(not wrong, f"{len(wrong)} of {check.SAMPLE} rows differ from an independent reckoning by pandas")
    if wrong:
        report.say("\n".join(wrong[:3]))
    aucs = training.fit(output)
    if aucs.without is not None and aucs.having is not None:
        text = f"AUC {aucs.having:.4f} with the features, {aucs.without:.4f} with the schedule alone"
        if len(table) >= ROWS_TO_LEARN_FROM:
            report.claim(aucs.having > aucs.without, text)
        else:
            report.say(text)

    _what_next(served, report, tailnum, output, options)
    return {
        "flights_sent": sent.flights,
        "accepted": accepted,
        "late_dropped": late,
        "parity_asked": again.asked,
        "parity_differences": again.differences,
        "differs_by_ts_alone": again.differs_by_ts_alone,
        "restart_differences": len(different),
        "export_rows": len(table),
        "auc_with": _rounded(aucs.having),
        "auc_without": _rounded(aucs.without),
        "seconds": round(report.seconds, 1),
    }


def _serve_and_commit(server: Server, report: Report, shown: bool = True) -> None:
    report.command(["thyme", *server.command])
    server.start()
    report.command(["thyme", "commit", str(FEATURES)])
    done = server.run("commit", str(FEATURES))
    if done.returncode != 0:
        raise SystemExit(f"error: the definitions were not taken\n{done.stderr}")
    lines = done.stdout.splitlines()
    report.say("\n".join([*(line for line in lines if line.startswith("+")), *lines[-1:]]) if shown else lines[-1])


@contextmanager
def _streaming(server: Server, flights: pd.DataFrame, report: Report) -> Iterator[Any]:
    events = int(flights["departed"].notna().sum() + flights["arrived"].notna().sum())
    with server.client() as client, report.progress("streamed", events, "events") as advance:
        yield client, advance


def _caught_up(server: Server, sent: stream.Sent) -> dict[str, tuple[int, int]]:
    """Waits until everything that was sent is in the answers; the server's counts per dataset."""
    with server.client(timeout=CATCH_UP_SECONDS) as client:
        for position in sent.positions:
            client.query(parity.FEATURESET, {"tailnum": "none"}, features=show.AIRCRAFT_FEATURES, at_least=position)
        return stream.counts(client)


def _compare(
    served: Server, left_alone: Server, flights: pd.DataFrame, counted: dict[str, tuple[int, int]], report: Report
) -> list[str]:
    """Streams everything again, elsewhere and undisturbed, and compares every key's features at many times."""
    _serve_and_commit(left_alone, report, shown=False)
    with _streaming(left_alone, flights, report) as (client, advance):
        sent = stream.send(client, flights, lambda _seen, events: advance(events))
    again = _caught_up(left_alone, sent)
    report.claim(again == counted, "both accepted the same events")
    with served.client() as one, left_alone.client() as other:
        first, second = restart.everything(one, flights), restart.everything(other, flights)
    report.say(f"{len(first):,} rows of features compared, now and at {restart.TIMES} times")
    left_alone.stop()
    shutil.rmtree(left_alone.data, ignore_errors=True)
    return restart.differences(first, second)


def _what_next(server: Server, report: Report, tailnum: str, output: Path, options: argparse.Namespace) -> None:
    report.section("What to try next")
    urls = " ".join(f"{name}={value}" for name, value in server.environment.items())
    report.command([".", str(Path(sys.prefix) / "bin" / "activate")])
    if not options.keep:
        report.command(["thyme", *server.command, "&"])
    report.command([f"export {urls}"])
    asked = ["-e", f"tailnum={tailnum}", "--features", "aircraft_miles_7d"]
    report.command(["thyme", "explain", parity.FEATURESET, *asked])
    report.command(["thyme", "status"])
    report.command(["thyme", "runs", "-n", "5"])
    report.say(f"The training set is {output}. Change {FEATURES} and see what `thyme plan` says of it.")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    sys.exit(main())
