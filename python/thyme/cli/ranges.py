"""`thyme query-offline` without a spine: changes of a featureset, rows of a dataset, into a file or in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thyme.calls import Stretch
from thyme.cli.options import connect, names_of_text, resolve
from thyme.cli.output import UsageError, note, say_json
from thyme.cli.parts import check_named, check_output, say_parts
from thyme.errors import NotFoundError

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.parts import RangeQuestion

_OF_FEATURES = ("--features", "--exclusive", "--statuses")


def export_range(
    asked: dict[str, Any],
    manifest: str | None,
    output: str,
    of_a_spine: dict[str, Any],
    url: str | None,
    control_url: str | None,
    as_json: bool,
) -> None:
    """Writes the rows. `asked`: REF and the options of the question; `of_a_spine`: those that need a spine.

    Raises:
        UsageError: an option that means nothing here.
    """
    from thyme.parts import RangeQuestion, export_range_parts, is_folder, read_manifest

    _refuse(of_a_spine, "is about a spine", "give the spine with --input, or leave the option out")
    again = None if manifest is None else read_manifest(manifest)
    if again is not None and again.stretch is None:
        raise UsageError("that manifest is of an export with a spine", hint="give it with --input", field="--input")
    check_named(asked, again, "a featureset or a dataset")
    check_output(output, is_folder(output), bool(asked["--partition-by"]))
    with connect(url, control_url) as client:
        if again is None:
            question = RangeQuestion(_command(client, asked), asked["--known-at"])
        else:
            question = RangeQuestion(again.command, again.known_at, again)
        if is_folder(output):
            say_parts(export_range_parts(client, question, output), output, as_json)
        else:
            _write(client, question, output, as_json)


def _write(client: Client, question: RangeQuestion, output: str, as_json: bool) -> None:
    from thyme.progress import Progress
    from thyme.writers import writing

    result = question.ask(client)
    reader, count = result.to_reader(), 0
    with Progress("exporting", None, None) as shown, writing(output, None, reader.schema) as write:
        for batch in reader:
            write(batch)
            count += batch.num_rows
            shown.advance(batch.num_rows)
    until = reader.schema.metadata[b"thyme.until"].decode()
    if as_json and output != "-":
        told = {"rows": count, "output": output, "until": until, "position": result.position, "pin": result.pin}
        say_json(told)
    else:
        note(f"{count} rows before {until} to {'stdout' if output == '-' else output}")


def _command(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """What is asked, as a manifest has it."""
    reference = resolve(asked["REF"])
    times = Stretch(asked["--since"], asked["--until"], None).fields()
    stretch = {"since": times.get("since"), "until": times.get("until"), "partition_by": asked["--partition-by"] or []}
    if _is_dataset(client, reference):
        of_features = {name: asked[name] for name in _OF_FEATURES}
        _refuse(of_features, "is about features, and this is a dataset", "leave it out, or name a featureset")
        return {"dataset": client.shape(reference, "dataset").name, **stretch}
    features = names_of_text(asked["--features"])
    of = {"features": features, "exclusive": asked["--exclusive"], "statuses": asked["--statuses"]}
    return {"featureset": client.shape(reference).name, **of, **stretch}


def _is_dataset(client: Client, reference: Any) -> bool:
    from thyme.dataset import dataset_of

    if not isinstance(reference, str):
        return dataset_of(reference) is not None
    try:
        client.shape(reference, "dataset")
    except NotFoundError:
        client.shape(reference, "any")
        return False
    return True


def _refuse(options: dict[str, Any], why: str, hint: str) -> None:
    for name, given in options.items():
        if given:
            raise UsageError(f"{name} {why}", hint=hint, field=name)
