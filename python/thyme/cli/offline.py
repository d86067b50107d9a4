"""`thyme query-offline`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from thyme.cli.options import (
    ControlUrl,
    Exclusive,
    Features,
    Json,
    KnownAt,
    Reference,
    Since,
    Until,
    Url,
    connect,
    names_of_text,
    resolve,
)
from thyme.cli.output import UsageError, note, reports_errors, say_json
from thyme.errors import UnavailableError

if TYPE_CHECKING:
    from thyme.result import ThymeResult
    from thyme.shapes import Shape

Result = TypeVar("Result")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("query-offline")(query_offline)


@reports_errors
def query_offline(
    reference: Reference,
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="Where the rows go; - is stdout.")],
    spine: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE|-", help="The spine: Parquet, Arrow, CSV, JSON lines; - is stdin."),
    ] = None,
    since: Since = None,
    until: Until = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="Of the spine: jsonl, csv, parquet or arrow; by the ending.")
    ] = None,
    entity_columns: Annotated[
        list[str] | None,
        typer.Option(
            "--entity-column", metavar="[KEY=]COLUMN", help="The column with the key. Repeat for several keys."
        ),
    ] = None,
    timestamp_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="The column with each row's time.")
    ] = "timestamp",
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    features: Features = None,
    statuses: Annotated[bool, typer.Option("--statuses", help="Add a status column per feature.")] = False,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Join features to the rows of a file, each as of its own time: a training set. Without --input: the changes of all
    keys of a featureset, or the rows of a dataset, between two times."""
    if spine is None:
        from thyme.cli.ranges import export_range

        columns = {"--entity-column": entity_columns, "--timestamp-column": timestamp_column != "timestamp"}
        of_a_spine = {"--format": file_format, **columns}
        of_features = {"--features": features, "--exclusive": exclusive, "--statuses": statuses}
        stretch = {"since": since, "until": until, "known_at": known_at}
        export_range(reference, output, stretch, of_features, of_a_spine, url, control_url, as_json)
        return
    if since is not None or until is not None:
        option = "--until" if since is None else "--since"
        hint = "leave --input out for the changes of all keys, or the option"
        raise UsageError(f"{option} is without a spine", hint=hint, field=option)
    from thyme.files import format_of
    from thyme.progress import Progress
    from thyme.spines import read_spine
    from thyme.writers import writing

    if output != "-":
        format_of(output, None)
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference))
        columns = _columns(shape, entity_columns or [])
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
        say_json({"rows": count, "output": output, "query_run_id": result.query_run_id, "position": result.position})
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


def _columns(shape: Shape, texts: list[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for text in texts:
        key, separator, column = text.partition("=")
        if not separator and len(shape.keys) != 1:
            raise UsageError(
                f"{shape.name} has the keys {', '.join(shape.keys)}",
                hint=f"write --entity-column {shape.keys[0]}={text}",
                field="--entity-column",
            )
        columns[key if separator else shape.keys[0]] = column if separator else text
    return columns
