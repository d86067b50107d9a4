"""`thyme ingest`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thyme.cli.options import ControlUrl, Json, Reference, Url, connect, resolve
from thyme.cli.output import note, reports_errors, say, say_json

_SHOWN_REJECTIONS = 10


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("ingest")(ingest)


@reports_errors
def ingest(
    dataset: Reference,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines, CSV, Parquet or Arrow; - is stdin.")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv, parquet or arrow; from the ending when left out.")
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="The field with each row's id: sending the file again adds nothing."),
    ] = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Send the rows of a file. Good rows are kept, bad ones are named; exit code 1 if there are any."""
    from thyme.files import read_parts
    from thyme.positions import merge
    from thyme.progress import Progress
    from thyme.result import RejectedRow

    accepted, rejected, last = 0, [], ""
    with connect(url, control_url) as client:
        shape = client.shape(resolve(dataset), kind="dataset")
        total, parts = read_parts(file, file_format, shape)
        with Progress("sending", total, None) as progress:
            for part in parts:
                ids = part.take_ids(event_id, keep=event_id in shape.types)
                done = client.log(shape, part.rows, ids, progress=False)
                accepted += done.accepted
                rejected += part.broken
                rejected += [RejectedRow(part.row_number(r.index), r.reason, r.field) for r in done.rejected]
                last = merge([last, done.position])
                progress.advance(part.count)
    _report(dataset, accepted, rejected, last, as_json)
    if rejected:
        raise typer.Exit(1)


def _report(dataset: str, accepted: int, rejected: list[Any], position: str, as_json: bool) -> None:
    if as_json:
        rows = [{"row": row.index, "reason": row.reason, "field": row.field} for row in rejected]
        say_json({"accepted": accepted, "rejected": rows, "position": position})
        return
    say(f"{dataset}: {accepted} rows sent" + (f", {len(rejected)} rejected" if rejected else ""))
    for row in rejected[:_SHOWN_REJECTIONS]:
        note(f"  row {row.index + 1}: {row.reason}" + (f" (field {row.field})" if row.field else ""))
    if len(rejected) > _SHOWN_REJECTIONS:
        note(f"  … and {len(rejected) - _SHOWN_REJECTIONS} more; --json lists all")
