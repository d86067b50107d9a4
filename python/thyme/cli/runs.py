"""`thyme runs`: the queries that were asked."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thyme.cli.options import ControlUrl, Json, Url, connect
from thyme.cli.output import note, reports_errors, say, say_json, say_table, text_of

app = typer.Typer(help="Show the queries that were asked.", invoke_without_command=True, rich_markup_mode=None)
Limit = Annotated[int, typer.Option("-n", "--limit", help="How many.")]
Featureset = Annotated[str, typer.Option(metavar="NAME", help="Only of this featureset or dataset.")]
Kind = Annotated[str, typer.Option(help="online, batch, offline or lookup.")]
Cursor = Annotated[str, typer.Option(help="Go on from here.")]


@app.callback()
@reports_errors
def default(
    context: typer.Context,
    limit: Limit = 20,
    featureset: Featureset = "",
    kind: Kind = "",
    cursor: Cursor = "",
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show the queries that were asked, newest first."""
    if context.invoked_subcommand is None:
        _list(limit, featureset, kind, cursor, url, control_url, as_json)


@app.command("list")
@reports_errors
def list_runs(
    limit: Limit = 20,
    featureset: Featureset = "",
    kind: Kind = "",
    cursor: Cursor = "",
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """The same as `thyme runs`."""
    _list(limit, featureset, kind, cursor, url, control_url, as_json)


@app.command("show")
@reports_errors
def show(
    run_id: Annotated[str, typer.Argument(metavar="ID")],
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show one query."""
    with connect(url, control_url) as client:
        found = client.run(run_id)
    if as_json:
        say_json(found)
        return
    for name, value in found.items():
        if value not in ("", None, []):
            say(f"{name + ':':<22}{text_of(value)}")


def _list(
    limit: int, featureset: str, kind: str, cursor: str, url: str | None, control_url: str | None, as_json: bool
) -> None:
    with connect(url, control_url) as client:
        found = client.runs(limit, featureset, kind, cursor)
    if as_json:
        say_json(found)
        return
    if not found["runs"]:
        note("no queries yet")
        return
    names = ["id", "kind", "featureset", "entities", "asked of", "rows", "hits", "ms", "created"]
    say_table(names, [_row(run) for run in found["runs"]])
    if found["next_cursor"]:
        note(f"more: --cursor {found['next_cursor']}")


def _row(run: dict[str, Any]) -> list[Any]:
    shown = [text_of(entity) for entity in run["entity_ids"]]
    entities = ", ".join(shown[:2]) + (" …" if len(shown) > 2 else "")
    counts = [run["row_count"], run["hit_count"], f"{run['latency_ms']:.3f}"]
    return [run["id"], run["kind"], run["featureset"], entities, run["requested_timestamp"], *counts, run["created_at"]]
