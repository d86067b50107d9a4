"""`thyme explain`."""

from __future__ import annotations

from typing import Annotated, Any

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
from thyme.cli.output import UsageError, note, reports_errors, say, say_json, text_of


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("explain")(explain)


@reports_errors
def explain(
    reference: Reference,
    entities: Entities,
    at: At = None,
    known_at: KnownAt = None,
    exclusive: Exclusive = False,
    inputs: Inputs = None,
    features: Features = None,
    events: Annotated[int, typer.Option(help="At most so many events per value.")] = 20,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show how values come about: their windows, the events that made them, the watermark."""
    if len(entities) != 1:
        raise UsageError("explain takes one key", hint="give -e once", field="-e")
    with connect(url, control_url) as client:
        shape = client.shape(resolve(reference), kind="any")
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
    if as_json:
        say_json(found)
        return
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
