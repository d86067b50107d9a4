"""Text read by a declared type: keys on the command line, CSV cells, JSON values."""

from __future__ import annotations

import base64
import binascii
import decimal
import json
from typing import Any

from thyme.errors import InvalidArgumentError
from thyme.literals import micros_datetime
from thyme.times import parse_micros


def typed(text: str, type_text: str, what: str) -> Any:
    """The value of a text.

    Raises:
        InvalidArgumentError: the text is not of the type.
    """
    try:
        if type_text == "bool":
            return {"true": True, "false": False}[text.lower()]
        if type_text == "int":
            return int(text)
        if type_text == "float":
            return float(text)
        if type_text == "datetime":
            return micros_datetime(parse_micros(text))
        if type_text == "Decimal":
            return decimal.Decimal(text)
        if type_text == "bytes":
            return base64.b64decode(text, validate=True)
        if type_text.startswith(("list[", "dict[")):
            return json.loads(text)
    except (KeyError, ValueError, binascii.Error, decimal.InvalidOperation):
        raise InvalidArgumentError(f"{what}: expected {type_text}, got '{text}'", field=what) from None
    return text


def from_csv(cell: str, type_text: str) -> Any:
    """A CSV cell: empty is null (except in text). A time stays text, and so does what cannot be read: the server reads
    the one and names the row of the other."""
    if cell == "" and type_text != "str":
        return None
    if type_text == "datetime":
        return cell
    try:
        return typed(cell, type_text, "")
    except InvalidArgumentError:
        return cell


def from_json(value: Any, type_text: str) -> Any:
    """A JSON value: bytes are base64 there. What cannot be read stays as it is, so that the server names the row."""
    if type_text != "bytes" or not isinstance(value, str):
        return value
    try:
        return typed(value, type_text, "")
    except InvalidArgumentError:
        return value
