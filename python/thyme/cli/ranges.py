"""`thyme query-offline` without a spine: the changes of a featureset, the rows of a dataset, into one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thyme.cli.options import connect, names_of_text, resolve
from thyme.cli.output import UsageError, note, say_json
from thyme.errors import NotFoundError

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.result import ThymeResult


def export_range(
    reference: str | None,
    output: str,
    stretch: dict[str, Any],
    of_features: dict[str, Any],
    of_a_spine: dict[str, Any],
    url: str | None,
    control_url: str | None,
    as_json: bool,
) -> None:
    """Writes the rows. `of_features`: options that a dataset's rows do not take; `of_a_spine`: that need a spine.

    Raises:
        UsageError: an option that means nothing here.
    """
    from thyme.files import format_of
    from thyme.progress import Progress
    from thyme.writers import writing

    _refuse(of_a_spine, "is about a spine", "give the spine with --input, or leave the option out")
    if reference is None:
        raise UsageError("missing argument REF", hint="name a featureset or a dataset", field="REF")
    if output != "-":
        format_of(output, None)
    with connect(url, control_url) as client:
        result = _ask(client, resolve(reference), stretch, of_features)
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


def _ask(client: Client, reference: Any, stretch: dict[str, Any], of_features: dict[str, Any]) -> ThymeResult:
    if not _is_dataset(client, reference):
        features = names_of_text(of_features["--features"])
        exclusive, statuses = of_features["--exclusive"], of_features["--statuses"]
        asked = {"features": features, "exclusive": exclusive, "statuses": statuses}
        return client.changes(reference, **stretch, **asked, stream=True)
    _refuse(of_features, "is about features, and this is a dataset", "leave it out, or name a featureset")
    return client.rows(reference, **stretch, stream=True)


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
