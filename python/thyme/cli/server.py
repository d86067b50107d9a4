"""`thyme serve`, `thyme status`, `thyme logs`, `thyme rebuild`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from thyme import control_calls
from thyme.cli.options import ControlUrl, Json, Url, connect
from thyme.cli.output import UsageError, note, reports_errors, say, say_json, say_table, text_of
from thyme.errors import ThymeError
from thyme.suggest import suggestion

FOLLOW_SECONDS = 1.0
ROLES = ("control", "ingest", "engine", "query")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("serve")(serve)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("rebuild")(rebuild)


@reports_errors
def serve(
    data_dir: Annotated[Path | None, typer.Option(help="Where log, state and catalog are kept [.thyme].")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file [thyme.toml, if there is one].")] = None,
    control_addr: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Control and ingest.")] = None,
    query_addr: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Features: gRPC, Flight, HTTP.")] = None,
    clock: Annotated[str | None, typer.Option(help="What now is: wall, or event (greatest event time).")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json, on stderr.")] = None,
    log_level: Annotated[str | None, typer.Option(help="error, warn, info, debug or trace.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="query (a replica that only answers), or all [all]."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting. Repeat.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the server: control, ingest, engine and queries in one process, until it is told to stop."""
    flags: dict[str, Any] = {"data_dir": None if data_dir is None else str(data_dir)}
    _put(flags, "server.role", _role(role))
    _put(flags, "server.control_addr", control_addr)
    _put(flags, "server.query_addr", query_addr)
    _put(flags, "server.clock", clock)
    _put(flags, "logging.format", "json" if as_json and log_format is None else log_format)
    _put(flags, "logging.level", log_level)
    for text in settings or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"not a setting: '{text}'", hint="write --set section.key=value", field="--set")
        _put(flags, key, value)
    from thyme import _native

    _native.serve(json.dumps({"config_file": None if config is None else str(config), "flags": flags}))


def _role(given: list[str] | None) -> str | None:
    """A process has all roles, or is a replica that answers queries."""
    roles = {name.strip() for text in given or [] for name in text.split(",")} - {"all"}
    for name in sorted(roles - set(ROLES)):
        raise UsageError(f"unknown role '{name}'", hint=suggestion(name, [*ROLES, "all"]), field="--role")
    if roles == {"query"}:
        return "query"
    if roles and roles != set(ROLES):
        message = f"a process with only the role{'s' if len(roles) > 1 else ''} {', '.join(sorted(roles))}"
        raise UsageError(
            f"{message} is not available in this release",
            hint="leave --role out for all of them, or say --role query",
            field="--role",
        )
    return "all" if given else None


@reports_errors
def status(url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Show how the server is doing."""
    with connect(url, control_url) as client:
        found = client.status()
    if as_json:
        say_json(found)
        return
    facts = {
        "state": found["state"],
        "work": _share(found),
        "version": found["version"],
        "commit": found["commit_id"] or "none yet (thyme commit features.py)",
        "clock": f"{found['clock']}, now {text_of(found['now'])}",
        "started": text_of(found["started_at"]),
        "data": found["data_dir"],
        "lag": f"{found['lag']} records",
    }
    for name, value in facts.items():
        say(f"{name + ':':<10}{value}")
    if found["trouble"] is not None:
        say(f"{'engine:':<10}does not go on: {found['trouble']}")
    for build in found["builds"]:
        say(f"{'building:':<10}{build['pipeline']} {build['done_records']}/{build['total_records']} records")
    for emission in found["emissions"]:
        say(f"{'emits:':<10}{emission['topic']}, {emission['lag']} records behind its pipeline")
    for feed in found["feeds"]:
        behind = f"its readers {feed['lag']} records behind the events"
        if feed["emit_lag"] is not None:
            behind = f"{feed['emit_lag']} records behind its pipeline, {behind}"
        say(f"{'feeds:':<10}{feed['topic']}, {behind}")
    if found["checkpoints"] is not None:
        _say_checkpoints(found["checkpoints"])
    if found["datasets"]:
        say("")
        names = ["dataset", "accepted", "late", "duplicates", "dead", "watermark", "lag"]
        say_table(names, [_dataset_row(dataset) for dataset in found["datasets"]])


def _share(found: dict[str, Any]) -> str:
    """What this server has of the work on its log."""
    owned = found["owned_slices"]
    if len(owned) == found["slices"]:
        return "owns it"
    if not owned and len(found["held_slices"]) == found["slices"]:
        return "follows the owner" if found["slices"] == 1 else "follows the owners"
    held = found["held_slices"]
    share = f"owns {_numbers(owned)} of {found['slices']} slices" + (", leads" if "control" in found["roles"] else "")
    return share if len(held) == found["slices"] else f"{share}; what follows is about {_numbers(held)}"


def _numbers(slices: list[int]) -> str:
    """`2 (0, 3)`."""
    return f"{len(slices)} ({', '.join(map(str, slices))})" if slices else "none"


def _say_checkpoints(found: dict[str, Any]) -> None:
    """Where they go and how old the newest is, then whatever is wrong."""
    newest = "none yet" if found["number"] is None else f"number {found['number']}, {found['size_bytes']} bytes"
    if found["age_seconds"] is not None:
        newest += f", {found['age_seconds']:.0f} s old"
    say(f"{'saved:':<10}{newest}, in {found['url']}")
    if found["restored"] is not None:
        say(f"{'restored:':<10}from checkpoint {found['restored']} when the server started")
    if found["compared"] is not None:
        say(f"{'compared:':<10}this replica was equal to checkpoint {found['compared']} at its place")
    for reason in found["unusable"]:
        say(f"{'damaged:':<10}{reason}")
    if found["trouble"] is not None:
        say(f"{'failing:':<10}{found['trouble']} ({found['failures']} times since the server started)")
    if found["diverged"] is not None:
        say(f"{'diverged:':<10}{found['diverged']}")


def _dataset_row(dataset: dict[str, Any]) -> list[Any]:
    counts = dataset["counts"] or {}
    numbers = [counts.get(name, 0) for name in ("accepted", "late_dropped", "duplicates", "dead_letters")]
    return [dataset["name"], *numbers, dataset["watermark"], dataset["lag"]]


@reports_errors
def logs(
    limit: Annotated[int, typer.Option("-n", "--limit", help="How many.")] = 50,
    severity: Annotated[str, typer.Option(help="debug, info, warning or error, and above.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show what the server reports: commits, builds, takeovers, sources and their rejected rows."""
    seen: set[str] = set()
    with connect(url, control_url) as client:
        while True:
            found = client.events(limit, severity=severity)["events"]
            for event in reversed([event for event in found if event["id"] not in seen]):
                seen.add(event["id"])
                if as_json:
                    say_json(event)
                else:
                    is_said = event["subject"] in event["message"]
                    subject = "" if is_said else f" {event['subject']}:"
                    say(f"{text_of(event['created_at'])} {event['severity']:<7}{subject} {event['message']}")
            if not follow:
                break
            time.sleep(FOLLOW_SECONDS)
    if not seen:
        note("nothing reported yet")


@reports_errors
def rebuild(url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Build the state anew from the log, beside the one that answers, and compare them. Exit code 1 if they differ."""
    with connect(url, control_url) as client:
        found = client._send(control_calls.rebuild(_say_progress))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if as_json:
        say_json(found)
    else:
        rows = [
            [table["table"], table["state_digest"], table["rebuilt_digest"], "yes" if table["equal"] else "NO"]
            for table in found["tables"]
        ]
        say_table(["table", "state", "rebuilt", "equal"], [*rows, _all_tables(found)])
    if not found["equal"]:
        note("the state is not what the log makes (see docs/guide/operations.md, 'The state is wrong')")
        raise typer.Exit(1)


def _all_tables(found: dict[str, Any]) -> list[Any]:
    return ["all", found["state_digest"], found["rebuilt_digest"], "yes" if found["equal"] else "NO"]


def _say_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[Krebuilding {done:,}/{total:,} records", end="", file=sys.stderr, flush=True)


def _put(flags: dict[str, Any], key: str, value: str | None) -> None:
    if value is None:
        return
    section, separator, name = key.partition(".")
    if not separator:
        flags[key] = value
        return
    inner = flags.setdefault(section, {})
    if not isinstance(inner, dict):
        raise ThymeError(f"'{section}' is a setting, not a section")
    inner[name] = value
