"""Python annotations as column types: `int`, `list[str]`, `Optional[float]` …"""

from __future__ import annotations

import builtins
import datetime as _datetime
import decimal
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass

from thyme.entries import TopKEntry
from thyme.errors import Location, ThymeDefinitionError
from thyme.suggest import nearest

ALLOWED = "bool, int, float, str, bytes, datetime, Decimal, list[T], dict[str, T], Optional[T]"
_SCALARS: dict[object, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    _datetime.datetime: "datetime",
    decimal.Decimal: "Decimal",
}


@dataclass(frozen=True)
class ColumnType:
    """A column's type as the server spells it, and whether it may be null."""

    name: str
    nullable: bool = False


def own_annotations(cls: type) -> dict[str, object]:
    """Annotations of `cls` and its bases in class order, not evaluated."""
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__[:-1]):
        found.update(inspect.get_annotations(base))
    return found


def evaluate(annotation: object, cls: type, local_names: Mapping[str, object], location: Location | None) -> object:
    """An annotation given as text (`from __future__ import annotations`) as the object that it names."""
    if not isinstance(annotation, str):
        return annotation
    names = dict(vars(sys.modules[cls.__module__])) if cls.__module__ in sys.modules else {}
    try:
        return eval(annotation, {**vars(builtins), **vars(typing), **names}, dict(local_names))
    except Exception as error:
        raise ThymeDefinitionError(
            f"cannot read the type '{annotation}': {error}", hint=_hint(annotation), location=location
        ) from error


def column_type(annotation: object, what: str, location: Location | None) -> ColumnType:
    """The column type of an annotation.

    Raises:
        ThymeDefinitionError: a type that columns cannot have; lists the allowed ones.
    """
    inner, nullable = _strip_optional(annotation)
    return ColumnType(_name(inner, annotation, what, location), nullable)


def _strip_optional(annotation: object) -> tuple[object, bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        arguments = typing.get_args(annotation)
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) == 1 and len(rest) < len(arguments):
            return rest[0], True
    return annotation, False


def _name(annotation: object, whole: object, what: str, location: Location | None) -> str:
    if isinstance(annotation, typing.Hashable) and annotation in _SCALARS:
        return _SCALARS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list and len(arguments) == 1:
        item, _ = _strip_optional(arguments[0])
        return f"list[{_name(item, whole, what, location)}]"
    if origin is dict and len(arguments) == 2:
        if arguments[0] is not str:
            raise _unsupported(whole, what, "a dict has str keys: dict[str, T]", location)
        item, _ = _strip_optional(arguments[1])
        return f"dict[str, {_name(item, whole, what, location)}]"
    if origin is TopKEntry and len(arguments) == 1:
        return f"TopKEntry[{_name(arguments[0], whole, what, location)}]"
    raise _unsupported(whole, what, _hint(_spell(annotation)), location)


def _unsupported(annotation: object, what: str, hint: str, location: Location | None) -> ThymeDefinitionError:
    return ThymeDefinitionError(f"{what}: unsupported type {_spell(annotation)}", hint=hint, location=location)


def _spell(annotation: object) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _hint(name: str) -> str:
    special = {
        "list": "say of what: list[int]",
        "dict": "say of what: dict[str, float]",
        "TopKEntry": "say of what: list[TopKEntry[str]]",
        "date": "use datetime",
    }
    if name in special:
        return special[name]
    found = nearest(name, ["bool", "int", "float", "str", "bytes", "datetime", "Decimal"])
    return f"did you mean '{found}'? allowed: {ALLOWED}" if found else f"allowed: {ALLOWED}"
