"""Aggregates over a window `[T - window, T]`, both ends included, exact to the microsecond.

Every operator takes `window` (such as `"90s"`, `"1d12h"`; `"forever"` or omitted is unbounded), `where=` (only rows for
which the predicate is true) and `default=` (replaces the value of an empty window).
"""

from __future__ import annotations

import inspect

from thyme.duration import checked_window
from thyme.errors import ThymeDefinitionError
from thyme.expressions import Expr, as_expr
from thyme.literals import literal
from thyme.location import caller_location
from thyme.suggest import suggestion


class _CheckedCall(type):
    """Turns a mistyped parameter into an error that names the nearest valid one."""

    def __call__(cls, *arguments: object, **named: object) -> object:
        allowed = list(inspect.signature(cls.__init__).parameters)[1:]
        for name in named:
            if name not in allowed:
                raise ThymeDefinitionError(
                    f"{cls.__name__} has no parameter '{name}'",
                    hint=suggestion(name, allowed),
                    field=name,
                    location=caller_location(),
                )
        try:
            inspect.signature(cls.__init__).bind(None, *arguments, **named)
        except TypeError as error:
            raise ThymeDefinitionError(
                f"{cls.__name__}: {error}",
                hint=f"parameters: {', '.join(allowed)}; such as {cls.example}",
                location=caller_location(),
            ) from None
        return super().__call__(*arguments, **named)


class Aggregate(metaclass=_CheckedCall):
    """One aggregate of a pipeline."""

    kind = ""
    example = ""

    def __init__(self, of: object, window: object, where: object, default: object, **parameters: object) -> None:
        self.location = caller_location()
        self.of = self._column(of)
        self.window = checked_window(window, self.location)
        self.where: Expr | None = None if where is None else self._predicate(where)
        self.default = None if default is None else literal(default, self.location)
        self.parameters = parameters

    def _refuse(self, message: str, field: str, hint: str | None = None) -> ThymeDefinitionError:
        return ThymeDefinitionError(f"{type(self).__name__}: {message}", hint=hint, field=field, location=self.location)

    def _column(self, of: object) -> str | None:
        if isinstance(of, Expr) and set(of.node) == {"col"}:
            return str(of.node["col"])
        if isinstance(of, Expr):
            raise self._refuse(
                "of takes a column name", "of", "compute the column with .assign(name=...) before groupby"
            )
        if of is None and self.kind == "count":
            return None
        if not isinstance(of, str) or not of:
            raise self._refuse(f"of takes a column name, got {of!r}", "of", f"such as {self.example}")
        return of

    def _predicate(self, where: object) -> Expr:
        if not isinstance(where, (Expr, bool)):
            raise self._refuse(f"where takes an expression, got {where!r}", "where", 'such as where=col("amount") > 0')
        return as_expr(where)

    def _flag(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise self._refuse(f"{name} must be True or False, got {value!r}", name)
        return value

    def _count(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**32:
            raise self._refuse(f"{name} must be an integer from 1 on, got {value!r}", name)
        return value

    def to_json(self, name: str) -> dict[str, object]:
        """The definition of the field `name`."""
        return {
            "name": name,
            "op": {"kind": self.kind, **self.parameters},
            "of": self.of,
            "window": self.window,
            "where": None if self.where is None else self.where.node,
            "default": self.default,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of={self.of!r}, window={self.window!r})"


class Count(Aggregate):
    """Number of rows; with `of`, of non-null values. Empty window: 0. Type int."""

    kind, example = "count", 'Count(window="1h")'

    def __init__(self, window: object = None, of: object = None, where: object = None, default: object = None) -> None:
        super().__init__(of, window, where, default)


class Sum(Aggregate):
    """The exact sum, rounded once. Empty window: 0. Type int for int, float for float; beyond it an ERROR value."""

    kind, example = "sum", 'Sum(of="amount", window="7d")'

    def __init__(self, of: object, window: object = None, where: object = None, default: object = None) -> None:
        super().__init__(of, window, where, default)


class Avg(Aggregate):
    """Exact sum / count, rounded once. Empty window: null. Type float."""

    kind, example = "avg", 'Avg(of="amount", window="7d")'

    def __init__(self, of: object, window: object = None, where: object = None, default: object = None) -> None:
        super().__init__(of, window, where, default)


class Min(Aggregate):
    """The least value. Empty window: null. Type of `of` (number, datetime, str)."""

    kind, example = "min", 'Min(of="amount", window="7d")'

    def __init__(self, of: object, window: object = None, where: object = None, default: object = None) -> None:
        super().__init__(of, window, where, default)


class Max(Aggregate):
    """The greatest value. Empty window: null. Type of `of` (number, datetime, str)."""

    kind, example = "max", 'Max(of="amount", window="7d")'

    def __init__(self, of: object, window: object = None, where: object = None, default: object = None) -> None:
        super().__init__(of, window, where, default)


class ApproxPercentile(Aggregate):
    """Without `pct`: mid-rank (0..1) of the newest value among the window's; with it the value at that percentile.

    `pct` is from 0 to 100. Exact up to 64 values, else a digest with rank error at most 0.01. Empty window: null.
    Type float.
    """

    kind, example = "approx_percentile", 'ApproxPercentile(of="amount", window="7d", pct=95)'

    def __init__(
        self, of: object, window: object = None, pct: object = None, where: object = None, default: object = None
    ) -> None:
        super().__init__(of, window, where, default, pct=pct if pct is None else self._percent(pct))

    def _percent(self, pct: object) -> float:
        if isinstance(pct, bool) or not isinstance(pct, (int, float)) or not 0 <= pct <= 100:
            self.location = caller_location()
            raise self._refuse(f"pct must be a number from 0 to 100, got {pct!r}", "pct")
        return float(pct)
