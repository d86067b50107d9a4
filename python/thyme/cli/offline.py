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
    Since,
    SpineFormat,
    TimestampColumn,
    Until,
    Url,
    columns_of_text,
    connect,
    names_of_text,
    resolve,
    types_of_columns,
)
from thyme.cli.output import UsageError, note, reports_errors, say_json
from thyme.errors import UnavailableError

if TYPE_CHECKING:
    from thyme.result import ThymeResult

Result = TypeVar("Result")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("query-offline")(query_offline)


@reports_errors
def query_offline(
    reference: Annotated[str, typer.Argument(metavar="REF[,REF]", help="Names of featuresets, or module:Class.")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="OUT", help="Where the rows go; - is stdout.")],
    spine: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE|-", help="The spine: Parquet, Arrow, CSV, JSON lines; - is stdin."),
    ] = None,
    since: Since = None,
    until: Until = None,
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
    """Join features to the rows of a file, each as of its own time: a training set. Without --input: the changes of all
    keys of a featureset, or the rows of a dataset, between two times. Of several featuresets the columns are named
    FEATURESET.FEATURE, and so are --features."""
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
        shapes = [client.shape(resolve(part.strip())) for part in reference.split(",")]
        columns = columns_of_text(shapes, entity_columns)
        types = types_of_columns(shapes, columns)

        def export() -> tuple[int, ThymeResult]:
            batches, total = read_spine(spine, file_format, types)
            result = client.query_offline(
                shapes if len(shapes) > 1 else shapes[0],
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
    for run_id in (result.query_run_id or "").split(","):
        if run_id:
            note(f"Results: run {run_id}")


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
