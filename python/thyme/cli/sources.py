"""`thyme sources`: where rows come from, and test, pause, resume, reset."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thyme.cli.options import ControlUrl, Json, Url, connect
from thyme.cli.output import note, reports_errors, say, say_json, say_table

app = typer.Typer(
    help="Show, test, pause, resume and reset the sources of datasets.", no_args_is_help=True, rich_markup_mode=None
)
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset that the source fills.")]
Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many rows.")]


@app.command("list")
@reports_errors
def list_sources(url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Show the sources and how they are."""
    with connect(url, control_url) as client:
        found = client.list("sources")
    if as_json:
        say_json(found)
        return
    if not found:
        note("no dataset has a source; put @source(…) above @dataset")
        return
    names = ["dataset", "kind", "state", "rows", "rejected", "last poll", "error"]
    say_table(names, [_row(source) for source in found])


@app.command("test")
@reports_errors
def test(
    dataset: Dataset, limit: Limit = 5, url: Url = None, control_url: ControlUrl = None, as_json: Json = False
) -> None:
    """Read the first rows of a source and show them; none is published. Fails if a row does not fit the dataset."""
    with connect(url, control_url) as client:
        found = client.test_source(dataset, limit)
    if as_json:
        say_json(found)
    else:
        _show_test(found)
    if found["rejected"]:
        raise typer.Exit(1)


@app.command("pause")
@reports_errors
def pause(dataset: Dataset, url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Stop reading a source until it is resumed, over restarts of the server too."""
    with connect(url, control_url) as client:
        _told(client.pause_source(dataset), f"the source of {dataset} is paused", as_json)


@app.command("resume")
@reports_errors
def resume(dataset: Dataset, url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Go on reading a paused source where it was."""
    with connect(url, control_url) as client:
        _told(client.resume_source(dataset), f"the source of {dataset} goes on", as_json)


@app.command("reset")
@reports_errors
def reset(dataset: Dataset, url: Url = None, control_url: ControlUrl = None, as_json: Json = False) -> None:
    """Read a source from its beginning again. Rows that came within the dataset's dedup_window do not count twice."""
    with connect(url, control_url) as client:
        _told(client.reset_source(dataset), f"the source of {dataset} is read from its beginning again", as_json)


def _told(source: dict[str, Any], message: str, as_json: bool) -> None:
    if as_json:
        say_json(source)
    else:
        note(message)


def _show_test(found: dict[str, Any]) -> None:
    rows = found["rows"]
    if rows:
        say_table(list(rows[0]), [list(row.values()) for row in rows])
    elif not found["rejected"]:
        note("the source can be read; it has no rows yet")
    for row in found["rejected"]:
        note(f"{row['place']} does not fit: {row['reason']}")
        if row["sample"]:
            note(f"  {row['sample']}")
    if found["pending"]:
        note(found["pending"])
    if rows and found["has_more"]:
        say("…")


def _row(source: dict[str, Any]) -> list[Any]:
    counts = [source["rows"], source["rejected"]]
    return [source["dataset"], source["kind"], source["state"], *counts, source["last_poll"], source["error"]]
