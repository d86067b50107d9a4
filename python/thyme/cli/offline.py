"""`thyme query-offline`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from thyme.cli.options import (
    ControlUrl,
    EntityColumns,
    Exclusive,
    Features,
    Json,
    KnownAt,
    Reference,
    SpineFormat,
    TimestampColumn,
    Url,
    columns_of_text,
    connect,
    names_of_text,
    resolve,
)
from thyme.cli.output import note, reports_errors, say_json
from thyme.errors import UnavailableError

if TYPE_CHECKING:
    from thyme.result import ThymeResult

Result = TypeVar("Result")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("query-offline")(query_offline)


@reports_errors
def query_offline(
    reference: Reference,
    spine: Annotated[
        str, typer.Option("--input", metavar="FILE|-", help="The spine: Parquet, Arrow, CSV, JSON lines; - is stdin.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="Where the rows go; - is stdout.")],
    file_format: SpineFormat = None,
    entity_columns: EntityColumns = None,
    timestamp_column: TimestampColumn = "timestamp",
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    features: Features = None,
    statuses: Annotated[bool, typer.Option("--statuses", help="Add a status column per feature.")] = False,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Join features to the rows of a file, each as of its own time: a training set."""
    from thyme.files import format_of
    from thyme.progress import Progress
    from thyme.spines import read_spine
    from thyme.writers import writing

    if output != "-":
        format_of(output, None)
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference))
        columns = columns_of_text(shape, entity_columns)
        types = {columns.get(key, key): shape.types[key] for key in shape.keys}

        def export() -> tuple[int, ThymeResult]:
            batches, total = read_spine(spine, file_format, types)
            result = client.query_offline(
                shape,
                batches,
                entity_columns=columns,
                timestamp_column=timestamp_column,
                known_at=known_at,
                exclusive=exclusive,
                features=names_of_text(features),
                statuses=statuses,
                stream=True,
            )
            count = 0
            joined = result.to_reader()
            with Progress("exporting", total, None) as shown, writing(output, None, joined.schema) as write:
                for batch in joined:
                    write(batch)
                    count += batch.num_rows
                    shown.advance(batch.num_rows)
            return count, result

        # From file to file it can begin again; a pipe has had its rows.
        retry_for = 0.0 if "-" in (spine, output) else client.settings.retry_for
        count, result = _again(export, retry_for)
    if as_json and output != "-":
        told = {"rows": count, "output": output, "query_run_id": result.query_run_id, "position": result.position}
        summary = result.summary or {}
        say_json({**told, "known": summary.get("known"), "features": summary.get("features")})
    else:
        note(f"{count} rows to {'stdout' if output == '-' else output}")
    if result.query_run_id:
        note(f"Results: run {result.query_run_id}")


def _again(export: Callable[[], Result], retry_for: float) -> Result:
    from thyme.channel import pauses

    waits = pauses(retry_for)
    while True:
        try:
            return export()
        except UnavailableError as error:
            pause = next(waits, None)
            if pause is None:
                raise error from None
            time.sleep(pause)
