"""The `str` and `dt` namespaces of expressions, and how expressions print."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from thyme.duration import checked_duration
from thyme.errors import ThymeDefinitionError
from thyme.literals import format_micros
from thyme.location import caller_location
from thyme.suggest import suggestion

if TYPE_CHECKING:
    from thyme.expressions import Expr


class _Namespace:
    _kind = ""

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def _call(self, op: str, *arguments: object) -> Expr:
        from thyme.expressions import call

        return call(op, self._expr, *arguments)

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        methods = [method for method in dir(type(self)) if not method.startswith("_")]
        raise ThymeDefinitionError(
            f"{self._kind} has no function '{name}'",
            hint=suggestion(name, methods),
            field=name,
            location=caller_location(),
        )


class StringNamespace(_Namespace):
    """Functions of text; null in gives null out."""

    _kind = "str"

    def lower(self) -> Expr:
        """In lower case."""
        return self._call("lower")

    def upper(self) -> Expr:
        """In upper case."""
        return self._call("upper")

    def strip(self) -> Expr:
        """Without white space at both ends."""
        return self._call("strip")

    def length(self) -> Expr:
        """Number of characters."""
        return self._call("length")

    def contains(self, text: object) -> Expr:
        """Whether `text` occurs in it (plain text, no pattern)."""
        return self._call("contains", text)

    def starts_with(self, text: object) -> Expr:
        """Whether it begins with `text`."""
        return self._call("starts_with", text)

    def ends_with(self, text: object) -> Expr:
        """Whether it ends with `text`."""
        return self._call("ends_with", text)

    def replace(self, old: object, new: object) -> Expr:
        """Every `old` replaced by `new` (plain text, no pattern)."""
        return self._call("replace", old, new)

    def slice(self, start: object, length: object = None) -> Expr:
        """`length` characters from `start` (0-based); to the end without `length`."""
        return self._call("slice", start) if length is None else self._call("slice", start, length)

    def concat(self, *others: object) -> Expr:
        """With the other texts behind it."""
        return self._call("concat", *others)

    def json_extract(self, path: str) -> Expr:
        """The text at a path such as `$.a.b[0]`; missing or JSON null is null."""
        return self._call("json_extract", path)


class TimeNamespace(_Namespace):
    """Functions of time, in UTC; null in gives null out."""

    _kind = "dt"

    def year(self) -> Expr:
        """Calendar year."""
        return self._call("year")

    def month(self) -> Expr:
        """Month, 1 to 12."""
        return self._call("month")

    def day(self) -> Expr:
        """Day of the month, 1 to 31."""
        return self._call("day")

    def hour(self) -> Expr:
        """Hour, 0 to 23."""
        return self._call("hour")

    def minute(self) -> Expr:
        """Minute, 0 to 59."""
        return self._call("minute")

    def second(self) -> Expr:
        """Second, 0 to 59."""
        return self._call("second")

    def day_of_week(self) -> Expr:
        """Day of the week: Monday is 1, Sunday 7 (ISO)."""
        return self._call("day_of_week")

    def day_of_year(self) -> Expr:
        """Day of the year, 1 to 366."""
        return self._call("day_of_year")

    def epoch_seconds(self) -> Expr:
        """Whole seconds since 1970, floored."""
        return self._call("epoch_seconds")

    def epoch_micros(self) -> Expr:
        """Microseconds since 1970."""
        return self._call("epoch_micros")

    def truncate(self, length: object) -> Expr:
        """Floored to a multiple of a length such as `1h` since 1970."""
        return self._call("truncate", checked_duration(length, "truncate"))

    def add(self, length: object) -> Expr:
        """Later by a length such as `1h`."""
        return self._call("add_duration", checked_duration(length, "add"))

    def subtract(self, length: object) -> Expr:
        """Earlier by a length such as `1h`."""
        return self._call("sub_duration", checked_duration(length, "subtract"))

    def diff_micros(self, earlier: object) -> Expr:
        """Microseconds from `earlier` to it."""
        return self._call("diff_micros", earlier)


_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "pow": "**", "eq": "==", "ne": "!=",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|",
}  # fmt: skip


def spell(node: dict) -> str:
    """An expression as its author would write it."""
    if "col" in node:
        return f'col("{node["col"]}")'
    if "lit" in node:
        return _spell_literal(node["lit"])
    if "when" in node:
        branches = [f"when({spell(test)}).then({spell(value)})" for test, value in node["when"]["branches"]]
        return f"{'.'.join(branches)}.otherwise({spell(node['when']['otherwise'])})"
    op, arguments = node["call"]["op"], [spell(argument) for argument in node["call"]["args"]]
    if op in _INFIX and len(arguments) == 2:
        return f"({arguments[0]} {_INFIX[op]} {arguments[1]})"
    if op == "neg":
        return f"(-{arguments[0]})"
    if op == "not":
        return f"(~{arguments[0]})"
    if op.startswith("to_"):
        return f"{arguments[0]}.cast({'Decimal' if op == 'to_decimal' else op[3:]})"
    namespace = "str." if hasattr(StringNamespace, op) else "dt." if hasattr(TimeNamespace, op) else ""
    return f"{arguments[0]}.{namespace}{op}({', '.join(arguments[1:])})"


def _spell_literal(value: dict) -> str:
    kind, content = next(iter(value.items()))
    if kind == "list":
        return f"[{', '.join(_spell_literal(item) for item in content)}]"
    if kind == "datetime":
        return repr(format_micros(content))
    if kind == "decimal":
        return f"Decimal({content!r})"
    if kind == "bytes":
        return repr(base64.b64decode(content))
    return repr(content)


def columns_of(node: object) -> list[str]:
    """Names of the columns that an expression reads, in order of appearance."""
    if isinstance(node, dict):
        if set(node) == {"col"}:
            return [node["col"]]
        if set(node) == {"lit"}:
            return []
        return [name for part in node.values() for name in columns_of(part)]
    if isinstance(node, list):
        return [name for part in node for name in columns_of(part)]
    return []
