"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from thyme.cli.output import UsageError
from thyme.errors import InvalidArgumentError, NotFoundError
from thyme.suggest import suggestion
from thyme.times import as_micros

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.shapes import Shape

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Url = Annotated[str | None, typer.Option("--url", help="Where features are served [env: THYME_BASE_URL].")]
ControlUrl = Annotated[
    str | None, typer.Option("--control-url", help="Where definitions and events go [env: THYME_CONTROL_URL].")
]
Reference = Annotated[str, typer.Argument(metavar="REF", help="Name of a featureset or dataset, or module:Class.")]
Entities = Annotated[
    list[str],
    typer.Option("-e", "--entity", metavar="KEY", help="The key: u1, or tailnum=N1,carrier=UA. Repeat for several."),
]


def _time_of_text(text: str | None) -> str | None:
    """A time that is none is a usage error, like any other option that is not as it should be."""
    if text is not None:
        try:
            as_micros(text)
        except InvalidArgumentError as error:
            raise typer.BadParameter(str(error)) from None
    return text


At = Annotated[
    str | None,
    typer.Option("--at", metavar="TS", callback=_time_of_text, help="As of this time (ISO-8601, UTC without a zone)."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TS", callback=_time_of_text, help="Without --input: from when on (ISO-8601)."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TS", callback=_time_of_text, help="Without --input: up to when, excluded."),
]
KnownAt = Annotated[str | None, typer.Option("--known-at", metavar="TS|POSITION", help="Only what was known then.")]
Exclusive = Annotated[bool, typer.Option("--exclusive", help="Windows end just before the time.")]
Features = Annotated[
    str | None, typer.Option("--features", metavar="A,B", help="Only these features, separated by commas.")
]
Inputs = Annotated[
    list[str] | None, typer.Option("-i", "--input", metavar="NAME=VALUE", help="A request feature. Repeat.")
]
EntityColumns = Annotated[
    list[str] | None,
    typer.Option("--entity-column", metavar="[KEY=]COLUMN", help="The column with the key. Repeat for several keys."),
]
TimestampColumn = Annotated[str, typer.Option(metavar="COLUMN", help="The column with each row's time.")]
SpineFormat = Annotated[
    str | None, typer.Option("--format", help="Of the spine: jsonl, csv, parquet or arrow; by the ending.")
]


def connect(url: str | None, control_url: str | None) -> Client:
    """A client for one command."""
    from thyme.client import Client

    return Client(url, control_url)


def resolve(reference: str) -> Any:
    """The class of `module:Class`; a name as it is.

    Raises:
        NotFoundError: no such module or class.
    """
    if ":" not in reference:
        return reference
    from thyme.loader import import_module

    module_name, _, class_name = reference.partition(":")
    module = import_module(module_name)
    found = getattr(module, class_name, None)
    if found is None:
        names = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise NotFoundError(f"{module_name} has no class '{class_name}'", hint=suggestion(class_name, names))
    return found


def key_of_text(shape: Shape, text: str) -> dict[str, Any]:
    """A key as written: `u1`, or `tailnum=N1,carrier=UA`; each part read by its declared type.

    Raises:
        InvalidArgumentError: an unknown key name, or text that is not of the type.
    """
    from thyme.texts import typed

    parts = [part.partition("=") for part in text.split(",")]
    named = all(separator and name in shape.types for name, separator, _ in parts)
    if not named and len(shape.keys) == 1:
        name = parts[0][0]
        if parts[0][1] and name.isidentifier():
            # It could be a key with a sign in it or a mistyped name; the answer to the wrong one looks like any other.
            raise InvalidArgumentError(
                f"{shape.name} has no key '{name}'",
                hint=f"write -e {shape.keys[0]}=…, so -e {shape.keys[0]}={text} if the sign belongs to the key",
                field="-e",
            )
        return {shape.keys[0]: typed(text, shape.types.get(shape.keys[0], "str"), shape.keys[0])}
    found: dict[str, Any] = {}
    for name, separator, value in parts:
        if not separator or name not in shape.types:
            spelled = ",".join(f"{key}=…" for key in shape.keys)
            raise UsageError(
                f"{shape.name} has the keys {', '.join(shape.keys)}; got '{text}'",
                hint=f"write -e {spelled}",
                field="-e",
            )
        found[name] = typed(value, shape.types[name], name)
    return found


def inputs_of_text(shape: Shape, texts: list[str] | None) -> dict[str, Any]:
    """Request features as written: `basket=12.5`."""
    from thyme.texts import typed

    found: dict[str, Any] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or name not in shape.types:
            raise UsageError(
                f"not an input of {shape.name}: '{text}'", hint=f"write NAME=VALUE; {suggestion(name, shape.types)}"
            )
        found[name] = typed(value, shape.types[name], name)
    return found


def columns_of_text(shapes: list[Shape], texts: list[str] | None) -> dict[str, str]:
    """Columns of a spine as written: `COLUMN` for the only key, else `KEY=COLUMN`."""
    columns: dict[str, str] = {}
    for text in texts or []:
        key, separator, column = text.partition("=")
        for shape in [] if separator else shapes:
            prefix = f"{shape.name}." if len(shapes) > 1 else ""
            if len(shape.keys) != 1:
                raise UsageError(
                    f"{shape.name} has the keys {', '.join(shape.keys)}",
                    hint=f"write --entity-column {prefix}{shape.keys[0]}={text}",
                    field="--entity-column",
                )
            columns[f"{prefix}{shape.keys[0]}"] = text
        if separator:
            columns[key] = column
    return columns


def types_of_columns(shapes: list[Shape], columns: dict[str, str]) -> dict[str, str]:
    """The declared types of a spine's key columns."""
    return {
        columns.get(f"{shape.name}.{key}") or columns.get(key, key): shape.types[key]
        for shape in shapes
        for key in shape.keys
    }


def names_of_text(text: str | None) -> list[str] | None:
    """`a,b` as names."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
