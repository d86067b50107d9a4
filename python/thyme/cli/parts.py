"""What `thyme query-offline` checks and says with a spine and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thyme.cli.output import UsageError, note, say_json
from thyme.errors import InvalidArgumentError

if TYPE_CHECKING:
    from thyme.parts import Manifest, Outcome


def say_parts(outcome: Outcome, output: str, as_json: bool) -> None:
    """What lies in the folder now."""
    manifest, before = outcome.manifest, outcome.parts_before
    count = len(manifest.parts)
    until = {} if manifest.stretch is None else {"until": manifest.stretch["until"]}
    if as_json:
        held = {"rows": manifest.rows, "output": output, **until, "parts": count, "parts_before": before}
        say_json({**held, "position": manifest.position, "pin": manifest.pin, "features": manifest.features})
        return
    rows = f"{manifest.rows} rows" + "".join(f" before {time}" for time in until.values())
    told = f"{rows} in {count} part{'' if count == 1 else 's'}"
    if before == count:
        note(f"already there: {told} in {output}")
    else:
        note(f"{told} to {output}" + (f", {before} of them were there" if before else ""))


def check_output(output: str, is_folder: bool, has_partitions: bool) -> None:
    """Refuses a file of no known format, and folders of values in a file."""
    from thyme.files import format_of

    if has_partitions and not is_folder:
        raise UsageError("--partition-by makes folders", hint="end -o with /", field="--partition-by")
    if is_folder or output == "-":
        return
    try:
        format_of(output, None)
    except InvalidArgumentError as error:
        hint = "end it with .parquet, .csv, .jsonl or .arrow, or with / for a folder of parts"
        raise InvalidArgumentError(error.message, hint=hint, field="--output") from None


def check_named(given: dict[str, Any], again: Manifest | None, what: str) -> None:
    """Either REF, the first of the options given, with the others, or a manifest that has them. `what`: REF names."""
    if again is None and given["REF"] is None:
        raise UsageError("missing argument REF", hint=f"name {what}, or give --manifest", field="REF")
    named = [name for name, value in given.items() if value]
    if again is not None and named:
        raise UsageError(
            f"--manifest says what is asked, so it is not given beside {', '.join(named)}", field="--manifest"
        )
