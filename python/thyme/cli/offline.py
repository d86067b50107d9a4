"""`thyme query-offline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
from thyme.cli.parts import check_named, check_output, say_parts

if TYPE_CHECKING:
    from thyme.result import ThymeResult

TIMESTAMP_COLUMN = "timestamp"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("query-offline")(query_offline)


@reports_errors
def query_offline(
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="Where the rows go: a file, a folder for parts (an interrupted export goes on there), s3:// or gs://; "
            "- is stdout.",
        ),
    ],
    reference: Annotated[
        str | None, typer.Argument(metavar="REF[,REF]", help="Names of featuresets, or module:Class.")
    ] = None,
    spine: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE|-", help="The spine: Parquet, Arrow, CSV, JSON lines; - is stdin."),
    ] = None,
    since: Since = None,
    until: Until = None,
    file_format: SpineFormat = None,
    entity_columns: EntityColumns = None,
    timestamp_column: TimestampColumn = TIMESTAMP_COLUMN,
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    features: Features = None,
    statuses: Annotated[bool, typer.Option("--statuses", help="Add a status column per feature.")] = False,
    partition_by: Annotated[
        list[str] | None,
        typer.Option(
            "--partition-by", metavar="COLUMN", help="Folders COLUMN=value; of a time date=YYYY-MM-DD. Repeat."
        ),
    ] = None,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest", metavar="FILE", help="Ask again what this manifest of an export says, instead of REF."
        ),
    ] = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Join features to the rows of a file, each as of its own time: a training set. Without --input: the changes of all
    keys of a featureset, or the rows of a dataset, between two times. Of several featuresets the columns are named
    FEATURESET.FEATURE, and so are --features."""
    columns = {"--entity-column": entity_columns, "--timestamp-column": timestamp_column != TIMESTAMP_COLUMN}
    given = {
        "REF": reference,
        "--features": features,
        "--exclusive": exclusive,
        "--statuses": statuses,
        "--known-at": known_at,
        "--partition-by": partition_by,
    }
    if spine is None:
        from thyme.cli.ranges import export_range

        asked = {**given, "--since": since, "--until": until}
        export_range(asked, manifest, output, {"--format": file_format, **columns}, url, control_url, as_json)
        return
    if since is not None or until is not None:
        option = "--until" if since is None else "--since"
        hint = "leave --input out for the changes of all keys, or the option"
        raise UsageError(f"{option} is without a spine", hint=hint, field=option)
    from thyme.channel import retried
    from thyme.parts import Question, export_parts, is_folder, read_manifest
    from thyme.spines import read_spine

    check_output(output, is_folder(output), bool(partition_by))
    command = {
        "featuresets": reference,
        "entity_columns": entity_columns or [],
        "timestamp_column": timestamp_column,
        "exclusive": exclusive,
        "features": names_of_text(features),
        "statuses": statuses,
        "partition_by": partition_by or [],
    }
    again = None if manifest is None else read_manifest(manifest)
    if again is not None and again.stretch is not None:
        raise UsageError("that manifest is of an export without a spine", hint="leave --input out", field="--input")
    check_named({**given, **columns}, again, "a featureset")
    with connect(url, control_url) as client:
        if again is None:
            shapes = [client.shape(resolve(part.strip())) for part in reference.split(",")]
            names, by_key = [shape.name for shape in shapes], columns_of_text(shapes, entity_columns)
            question = Question({**command, "featuresets": names, "entity_columns": by_key}, known_at)
        else:
            question = Question(again.command, again.known_at, again)
            shapes = [client.shape(name) for name in question.command["featuresets"]]
        types = types_of_columns(shapes, question.command["entity_columns"])
        # From file to file it can begin again; a pipe has had its rows.
        retry_for = 0.0 if "-" in (spine, output) else client.settings.retry_for

        def read() -> tuple[Any, int | None]:
            return read_spine(spine, file_format, types)

        if is_folder(output):
            say_parts(export_parts(client, shapes, question, read, output, retry_for), output, as_json)
            return

        def export() -> tuple[int, ThymeResult]:
            batches, total = read()
            result = question.ask(client, shapes, batches, None if again is None else again.pin)
            return _write(result, output, total), result

        count, result = retried(export, retry_for)
    if as_json and output != "-":
        told = {"rows": count, "output": output, "query_run_id": result.query_run_id, "position": result.position}
        summary = result.summary or {}
        say_json({**told, "known": summary.get("known"), "features": summary.get("features")})
    else:
        note(f"{count} rows to {'stdout' if output == '-' else output}")
    for run_id in (result.query_run_id or "").split(","):
        if run_id:
            note(f"Results: run {run_id}")


def _write(result: ThymeResult, output: str, total: int | None) -> int:
    from thyme.progress import Progress
    from thyme.writers import writing

    count = 0
    joined = result.to_reader()
    with Progress("exporting", total, None) as shown, writing(output, None, joined.schema) as write:
        for batch in joined:
            write(batch)
            count += batch.num_rows
            shown.advance(batch.num_rows)
    return count
