"""`thyme query` and `thyme lookup`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.cli.options import (
    At,
    ControlUrl,
    Entities,
    Exclusive,
    Features,
    Inputs,
    Json,
    KnownAt,
    Reference,
    Url,
    connect,
    inputs_of_text,
    key_of_text,
    names_of_text,
    resolve,
)
from thyme.cli.output import UsageError, note, reports_errors, say_json, say_table, text_of

if TYPE_CHECKING:
    from thyme.result import ThymeResult
    from thyme.shapes import Shape

Format = Annotated[
    str | None, typer.Option("-f", "--format", help="table, json, csv, parquet or arrow; by the ending of -o.")
]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Write to this file.")]
_FORMATS = ("table", "json", "csv", "parquet", "arrow")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("query")(query)
    app.command("lookup")(lookup)


@reports_errors
def query(
    reference: Reference,
    entities: Entities,
    at: At = None,
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    inputs: Inputs = None,
    features: Features = None,
    file_format: Format = None,
    output: Output = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Ask for the features of one key or several, now or as of a time."""
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference))
        keys = [key_of_text(shape, text) for text in entities]
        given = inputs_of_text(shape, inputs) or None
        when: dict[str, Any] = {"ts": at, "known_at": known_at, "exclusive": exclusive}
        names = names_of_text(features)
        if len(keys) == 1:
            result = client.query(shape, keys[0], inputs=given, features=names, **when)
        else:
            rows = None if given is None else [given] * len(keys)
            result = client.query_batch(shape, keys, inputs=rows, features=names, **when)
    _show(shape, "features", keys, result, _format(file_format, output, as_json), output)


@reports_errors
def lookup(
    reference: Reference,
    entities: Entities,
    at: At = None,
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    file_format: Format = None,
    output: Output = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Look up the row of a key in a dataset: the newest row, or its aggregates, now or as of a time."""
    if len(entities) != 1:
        raise UsageError("lookup takes one key", hint="give -e once", field="-e")
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference), kind="dataset")
        key = key_of_text(shape, entities[0])
        result = client.lookup(shape, key, ts=at, known_at=known_at, exclusive=exclusive)
    _show(shape, "fields", [key], result, _format(file_format, output, as_json), output)


def _format(given: str | None, output: str | None, as_json: bool) -> str:
    if given is not None and given not in _FORMATS:
        raise UsageError(f"unknown format '{given}'", hint=f"allowed: {', '.join(_FORMATS)}", field="-f")
    if as_json:
        return "json"
    if given is None and output is not None:
        ending = output.rpartition(".")[2].lower()
        return ending if ending in _FORMATS else "json"
    return given or "table"


def _show(
    shape: Shape, member: str, keys: list[dict[str, Any]], result: ThymeResult, kind: str, output: str | None
) -> None:
    if kind in ("csv", "parquet", "arrow"):
        from thyme.writers import write_table

        write_table(result.to_arrow(), output or "-", kind)
    elif kind == "json" and output is None:
        say_json(_as_json(shape, member, keys, result))
    elif kind == "json":
        import json
        from pathlib import Path

        from thyme.cli.output import json_value

        body = json_value(_as_json(shape, member, keys, result))
        Path(output or "").write_text(json.dumps(body, ensure_ascii=False) + "\n", encoding="utf-8")
    elif len(result) == 1:
        _show_one(result)
    else:
        say_table(result.column_names, [list(row.values()) for row in result.to_dicts()])
    for name, reasons in result.errors.items():
        for row, reason in reasons.items():
            note(f"error in {name} of row {row + 1}: {reason}")
    if result.query_run_id:
        note(_footer(result))


def _show_one(result: ThymeResult) -> None:
    row = result.to_dicts()[0]
    rows = [[name, value, result.statuses.get(name, ["OK"])[0]] for name, value in row.items()]
    say_table(["name", "value", "status"], [[name, text_of(value), status] for name, value, status in rows])


def _footer(result: ThymeResult) -> str:
    parts = [f"Results: run {result.query_run_id}"]
    if result.ts is not None:
        parts.append(f"as of {text_of(result.ts)}")
    if result.watermark is not None:
        parts.append(f"watermark {text_of(result.watermark)}")
    parts.append("final" if result.final else "not final")
    return ", ".join(parts)


def _as_json(shape: Shape, member: str, keys: list[dict[str, Any]], result: ThymeResult) -> dict[str, Any]:
    rows = result.to_dicts()
    body: dict[str, Any] = {"featureset" if member == "features" else "dataset": shape.name}
    if len(keys) == 1:
        row = rows[0] if rows else None
        keyed = keys[0] if row is None else {name: row.get(name, value) for name, value in keys[0].items()}
        body["key"] = keyed
        is_feature = member == "features"
        body["features"] = (
            None
            if row is None
            else {n: v for n, v in row.items() if not (is_feature and n in keyed and n in shape.keys)}
        )
        body["statuses"] = {name: statuses[0] for name, statuses in result.statuses.items()}
        body["errors"] = {name: reasons[0] for name, reasons in result.errors.items() if 0 in reasons}
    else:
        body["rows"] = rows
        body["statuses"] = result.statuses
        body["errors"] = result.errors
    return {
        **body,
        "mode": result.mode,
        "ts": result.ts,
        "watermark": result.watermark,
        "position": result.position,
        "final": result.final,
        "query_run_id": result.query_run_id,
    }
