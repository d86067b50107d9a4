"""`thyme commit` and `thyme plan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from thyme.cli.options import ControlUrl, Json, Url, connect
from thyme.cli.output import UsageError, note, reports_errors, say, say_json
from thyme.errors import FailedPreconditionError

Source = Annotated[str | None, typer.Argument(metavar="PATH", help="A Python file, or a directory of them.")]
Module = Annotated[str | None, typer.Option("-m", metavar="MODULE", help="A module, by dotted name.")]
Remove = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Remove this dataset or featureset. Repeat.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("commit")(commit)
    app.command("plan")(plan)


@reports_errors
def commit(
    path: Source = None,
    module: Module = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything on the server, change nothing.")] = False,
    only_plan: Annotated[bool, typer.Option("--plan", help="Show what it would do, change nothing.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the definitions as JSON, send nothing.")
    ] = None,
    remove: Remove = None,
    supersede: Annotated[bool, typer.Option(help="Take the place of a commit that is being built.")] = False,
    message: Annotated[str, typer.Option(help="What it is about.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it answers.")] = True,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Send definitions to the server: it adds and changes what they contain and removes nothing else."""
    text = _definitions(path, module, remove)
    if output is not None:
        if str(output) == "-":
            say(text)
        else:
            output.write_text(text + "\n", encoding="utf-8")
            note(f"wrote {output}")
        return
    with connect(url, control_url) as client:
        if only_plan:
            _show_plan(client.plan(text, remove or ()), as_json)
            return
        progress = _Builds()
        answer = client.commit(
            text,
            dry_run=dry_run,
            remove=remove or (),
            supersede=supersede,
            message=message,
            wait=wait,
            on_progress=progress.show,
        )
        progress.done()
    _finish(answer, dry_run, as_json)


@reports_errors
def plan(
    path: Source = None,
    module: Module = None,
    remove: Remove = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show what a commit would do."""
    text = _definitions(path, module, remove)
    with connect(url, control_url) as client:
        _show_plan(client.plan(text, remove or ()), as_json)


def _definitions(path: str | None, module: str | None, remove: list[str] | None) -> str:
    from thyme.definitions import definitions_json
    from thyme.loader import load_module, load_path

    if path is not None and module is not None:
        raise UsageError("PATH and -m MODULE exclude each other")
    if path is not None:
        return definitions_json(root=load_path(path))
    if module is not None:
        return definitions_json(root=load_module(module))
    if remove:
        return definitions_json()
    raise UsageError("nothing to commit", hint="write thyme commit features.py, or -m my_package.features")


def _finish(answer: dict[str, Any], dry_run: bool, as_json: bool) -> None:
    found = answer["commit"]
    failed = found is not None and found["state"] == "failed"
    if as_json:
        plan = {name: value for name, value in (answer["plan"] or {}).items() if name != "plan_json"}
        say_json({**answer, "plan": plan})
    else:
        _show_plan(answer["plan"] or {}, False)
    if failed:
        raise FailedPreconditionError(f"commit {found['id']} failed: {found['error']}")
    if as_json:
        return
    if dry_run or found is None:
        note("the definitions are good; nothing was changed")
    elif found["state"] == "active":
        say(f"commit {found['id']} answers")
    elif found["state"] == "building":
        say(f"commit {found['id']} is being built; see thyme status")
    else:
        say(f"commit {found['id']}: {found['state']}")


_SIGNS = {"added": "+", "changed": "~", "renamed": ">", "removed": "-"}


def _show_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json({name: value for name, value in plan.items() if name != "plan_json"})
        return
    if plan.get("unchanged"):
        say("nothing changes")
    for change in plan.get("changes", ()):
        detail = f"  {change['detail']}" if change["detail"] else ""
        say(f"{_SIGNS.get(change['kind'], '?')} {change['object']} {change['name']}{detail}")
    for state in plan.get("states", ()):
        replay = f", replays {state['replayed_records']} records" if state["replayed_records"] else ""
        detail = f" ({state['detail']})" if state["detail"] else ""
        say(f"  {state['name']}: {state['action']}{replay}{detail}")
    for warning in plan.get("warnings", ()):
        note(f"warning: {warning}")


class _Builds:
    """Progress of the pipelines that are being built, on stderr."""

    def __init__(self) -> None:
        self._shown = False
        self._terminal = sys.stderr.isatty()

    def show(self, commit: dict[str, Any]) -> None:
        parts = [
            f"{build['pipeline']} {build['done_records']:,}/{build['total_records']:,}" for build in commit["builds"]
        ]
        text = f"building {', '.join(parts) or commit['id']}"
        if self._terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif not self._shown:
            note(text)
        self._shown = True

    def done(self) -> None:
        if self._shown and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
