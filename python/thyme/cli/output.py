"""What commands print: data on stdout, notes and errors on stderr; errors decide the exit code."""

from __future__ import annotations

import base64
import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import typer

from thyme.errors import InvalidArgumentError, ThymeError

Function = TypeVar("Function", bound=Callable[..., Any])


class UsageError(InvalidArgumentError):
    """The command was not written as it should be."""

    @property
    def exit_code(self) -> int:
        """As for options that do not exist."""
        return 2


def note(text: str = "") -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line of data, on stdout."""
    print(text, flush=True)


def json_value(value: Any) -> Any:
    """The public JSON form of a value: datetimes ISO-8601 with `Z`, Decimals their digits as text, bytes base64."""
    from thyme.literals import datetime_micros, decimal_text, format_micros

    if isinstance(value, datetime):
        return format_micros(datetime_micros(value)) if value.tzinfo else value.isoformat()
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(entry) for entry in value]
    return value


def say_json(value: Any) -> None:
    """One JSON document on stdout."""
    say(json.dumps(json_value(value), ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def text_of(value: Any) -> str:
    """A value in a table."""
    plain = json_value(value)
    if plain is None:
        return "-"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def say_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """An aligned table on stdout; numbers to the right."""
    cells = [[text_of(value) for value in row] for row in (list(row) for row in rows)]
    widths = [max(len(name), *(len(row[index]) for row in cells), 0) for index, name in enumerate(names)]
    right = [bool(cells) and all(_is_number(row[index]) for row in cells) for index in range(len(names))]

    def line(row: Sequence[str]) -> str:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    say(line(names))
    for row in cells:
        say(line(row))


def _is_number(text: str) -> bool:
    return text == "-" or text.lstrip("-").replace(".", "", 1).replace("e", "", 1).isdigit()


def say_error(error: ThymeError, as_json: bool) -> None:
    """An error on stderr: what happened, where, what to do."""
    if as_json:
        body = {"error": error.message, "code": error.code, "field": error.field, "hint": error.hint}
        body["location"] = str(error.location) if error.location is not None else None
        body["errors"] = [{"field": field, "error": text} for field, text in error.violations]
        note(json.dumps({name: value for name, value in body.items() if value}, ensure_ascii=False))
        return
    note(f"error: {error.message}")
    for _, text in error.violations:
        note(f"  - {text}")
    if error.location is not None and not error.violations:
        note(f"  at: {error.location}")
    if error.hint:
        note(f"  hint: {error.hint}")


def reports_errors(function: Function) -> Function:
    """Prints a `ThymeError` of a command and leaves with its exit code."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except ThymeError as error:
            say_error(error, bool(named.get("as_json")))
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None

    return wrapped  # type: ignore[return-value]
