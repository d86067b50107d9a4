"""`thyme explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.cli.options import (
    At,
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
    inputs_of_text,
    key_of_text,
    names_of_text,
    resolve,
    types_of_columns,
)
from thyme.cli.output import UsageError, note, reports_errors, say, say_json, say_table, text_of

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.shapes import Shape


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("explain")(explain)


@reports_errors
def explain(
    reference: Reference,
    entities: Annotated[
        list[str] | None,
        typer.Option("-e", "--entity", metavar="KEY", help="The key: u1, or tailnum=N1,carrier=UA."),
    ] = None,
    at: At = None,
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--input",
            metavar="NAME=VALUE|FILE",
            help="With -e a request feature; repeat. Without, the spine of an export that is run to tell what is done.",
        ),
    ] = None,
    features: Features = None,
    events: Annotated[int, typer.Option(help="At most so many events per value.")] = 20,
    file_format: SpineFormat = None,
    entity_columns: EntityColumns = None,
    timestamp_column: TimestampColumn = "timestamp",
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show how values come about: their windows, the events that made them, the watermark. Without a key: the plan by
    which an export gets at them, with a spine (--input FILE) also what is done for it and what comes of it."""
    _check(entities or [], inputs or [], at, bool(entity_columns or file_format))
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference), kind="any")
        if entities:
            found = client.explain(
                shape,
                key_of_text(shape, entities[0]),
                ts=at,
                known_at=known_at,
                exclusive=exclusive,
                inputs=inputs_of_text(shape, inputs),
                features=names_of_text(features),
                max_events=events,
            )
        elif inputs:
            asked = {"known_at": known_at, "exclusive": exclusive, "features": names_of_text(features)}
            columns = columns_of_text([shape], entity_columns)
            asked |= {"entity_columns": columns, "timestamp_column": timestamp_column}
            found = _exported(client, shape, inputs[0], file_format, asked)
        else:
            found = client.explain(shape, known_at=known_at, exclusive=exclusive, features=names_of_text(features))
    if as_json:
        say_json(found)
    elif entities:
        _show_all(found)
    else:
        _show_plan(found["plan"])
        if "features" in found:
            _show_counts(found)


def _check(entities: list[str], inputs: list[str], at: str | None, has_spine_options: bool) -> None:
    """Refuses what belongs to another way of asking."""
    if len(entities) > 1:
        raise UsageError("explain takes one key", hint="give -e once", field="-e")
    if not entities and len(inputs) > 1:
        raise UsageError("explain takes one spine", hint="give --input once", field="--input")
    if not entities and at is not None:
        hint = "give -e KEY; the rows of a spine have times of their own"
        raise UsageError("a time is of a key", hint=hint, field="--at")
    if has_spine_options and (entities or not inputs):
        hint = "give --input FILE and no -e"
        raise UsageError("--entity-column and --format are of a spine", hint=hint, field="--input")


def _exported(
    client: Client, shape: Shape, spine: str, file_format: str | None, asked: dict[str, Any]
) -> dict[str, Any]:
    """Runs an export, lets go of its rows, and returns its summary."""
    from thyme.errors import FailedPreconditionError
    from thyme.progress import Progress
    from thyme.spines import read_spine

    batches, total = read_spine(spine, file_format, types_of_columns([shape], asked["entity_columns"]))
    result = client.query_offline(shape, batches, stream=True, **asked)
    with Progress("exporting", total, None) as shown:
        for batch in result.to_reader():
            shown.advance(batch.num_rows)
    if result.summary is None:
        raise FailedPreconditionError("the server tells nothing of its exports", hint="it is of an older version")
    return {"name": shape.name, **result.summary}


def _show_plan(plan: dict[str, Any]) -> None:
    for read in plan["reads"]:
        windows = f" over {', '.join(read['windows'])}" if read["windows"] else ""
        what = read["table"] if read["windows"] else f"the newest row of {read['table']}"
        say(f"read {what} by {', '.join(read['key'])}{windows}")
        say(f"  gives {', '.join(read['features'])}")
        if read["one_by_one"]:
            say(f"  time by time {', '.join(read['one_by_one'])}")
        if (done := read["done"]) is not None:
            rows = f"{done['rows_swept']} rows swept, {done['rows_sought']} sought"
            times = f"{done['times']} times of {done['keys']} keys in {done['chunks']} chunks"
            say(f"  done: {rows}; {times}; {done['trie_rows']} rows of the state read")
    for call in plan["calls"]:
        way = "native" if call["native"] else "Python, by columns" if call["batch"] else "Python"
        say(f"call {call['extractor']} ({way}): {', '.join(call['inputs'])} -> {', '.join(call['outputs'])}")
    note(f"chunks of at most {plan['chunk_rows']} rows, sorted by key and time")
    note("a key is swept where it has at most 128 events per time asked, else each time is sought by itself")


def _show_counts(found: dict[str, Any]) -> None:
    say("")
    names = ("nulls", "defaults", "errors", "first_error")
    say_table(("feature", *names), [(told["name"], *(told[name] for name in names)) for told in found["features"]])
    note(f"{found['rows']} rows, {found['known']} with a known key")


def _show_all(found: dict[str, Any]) -> None:
    for explanation in found["explanations"]:
        _show(explanation)
    state = "final" if found["final"] else "not final"
    note(f"as of {text_of(found['ts'])}, watermark {text_of(found['watermark'])}, {state}")


def _show(explanation: dict[str, Any]) -> None:
    status = "" if explanation["status"] == "OK" else f"  [{explanation['status']}]"
    say(f"{explanation['name']} = {text_of(explanation['value'])}{status}")
    if explanation["error"]:
        say(f"  error: {explanation['error']}")
    if explanation["definition"]:
        say(f"  {explanation['definition']}")
    if explanation["inputs"]:
        say(f"  from {', '.join(explanation['inputs'])}")
    if explanation["window_end"] is not None:
        start = "the beginning" if explanation["window_start"] is None else text_of(explanation["window_start"])
        more = "more than " if explanation["truncated"] else ""
        count = f"{more}{explanation['event_count']} event{'' if explanation['event_count'] == 1 else 's'}"
        say(f"  window from {start} to {text_of(explanation['window_end'])}, {count}")
    for event in explanation["events"]:
        values = ", ".join(f"{name}={text_of(value)}" for name, value in event["values"].items())
        place = f"partition {event['partition']} offset {event['offset']}"
        say(f"    {text_of(event['event_time'])}  {values}  ({place}, arrived {text_of(event['append_time'])})")
    if explanation["truncated"]:
        say("    … and older ones; --events shows more")
    say("")
