"""Expressions over the columns of a row, with SQL's three-valued logic: `col("amount") * 0.8 > lit(10)`.

An expression is only a description; the server types it at commit and computes it.
"""

from __future__ import annotations

import datetime as _datetime
from collections.abc import Iterable

from thyme.duration import checked_duration
from thyme.errors import ThymeDefinitionError
from thyme.expression_names import StringNamespace, TimeNamespace
from thyme.literals import literal
from thyme.location import caller_location
from thyme.suggest import suggestion


class Expr:
    """An expression. Combine with `+ - * / // % **`, comparisons, `& | ~`, and the methods below."""

    __slots__ = ("node",)
    __hash__ = None  # `==` builds an expression, so expressions cannot be dictionary keys

    def __init__(self, node: dict[str, object]) -> None:
        self.node = node

    # arithmetic: int with int stays int, `/` is float division, `//` floors; overflow and division by zero are null
    def __add__(self, other: object) -> Expr:
        return (
            self._shift("add_duration", other) if isinstance(other, _datetime.timedelta) else call("add", self, other)
        )

    def __radd__(self, other: object) -> Expr:
        return (
            self._shift("add_duration", other) if isinstance(other, _datetime.timedelta) else call("add", other, self)
        )

    def __sub__(self, other: object) -> Expr:
        return (
            self._shift("sub_duration", other) if isinstance(other, _datetime.timedelta) else call("sub", self, other)
        )

    def __rsub__(self, other: object) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: object) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: object) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: object) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: object) -> Expr:
        return call("div", other, self)

    def __floordiv__(self, other: object) -> Expr:
        return call("floordiv", self, other)

    def __rfloordiv__(self, other: object) -> Expr:
        return call("floordiv", other, self)

    def __mod__(self, other: object) -> Expr:
        return call("mod", self, other)

    def __rmod__(self, other: object) -> Expr:
        return call("mod", other, self)

    def __pow__(self, other: object) -> Expr:
        return call("pow", self, other)

    def __rpow__(self, other: object) -> Expr:
        return call("pow", other, self)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return self.abs()

    # comparison and logic: null when it cannot be known
    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return call("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return call("ne", self, other)

    def __lt__(self, other: object) -> Expr:
        return call("lt", self, other)

    def __le__(self, other: object) -> Expr:
        return call("le", self, other)

    def __gt__(self, other: object) -> Expr:
        return call("gt", self, other)

    def __ge__(self, other: object) -> Expr:
        return call("ge", self, other)

    def __and__(self, other: object) -> Expr:
        return call("and", self, other)

    def __rand__(self, other: object) -> Expr:
        return call("and", other, self)

    def __or__(self, other: object) -> Expr:
        return call("or", self, other)

    def __ror__(self, other: object) -> Expr:
        return call("or", other, self)

    def __invert__(self) -> Expr:
        return call("not", self)

    def __bool__(self) -> bool:
        raise ThymeDefinitionError(
            "an expression is neither true nor false before it meets a row",
            hint="use & for and, | for or, ~ for not, .is_in([...]) for in, and put parentheses around comparisons",
            location=caller_location(),
        )

    def __iter__(self) -> Iterable[object]:
        raise ThymeDefinitionError("an expression cannot be iterated over", location=caller_location())

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        methods = [method for method in dir(type(self)) if not method.startswith("_") and method != "node"]
        raise ThymeDefinitionError(
            f"an expression has no method '{name}'",
            hint=suggestion(name, methods),
            field=name,
            location=caller_location(),
        )

    def abs(self) -> Expr:
        """The absolute value."""
        return call("abs", self)

    def round(self, digits: int = 0) -> Expr:
        """Rounded to `digits` decimal places, ties to even."""
        return call("round", self, digits) if digits else call("round", self)

    def floor(self) -> Expr:
        """The greatest whole number not above it."""
        return call("floor", self)

    def ceil(self) -> Expr:
        """The least whole number not below it."""
        return call("ceil", self)

    def sqrt(self) -> Expr:
        """The square root; null below zero."""
        return call("sqrt", self)

    def exp(self) -> Expr:
        """e to this power."""
        return call("exp", self)

    def log(self) -> Expr:
        """The natural logarithm; null at and below zero."""
        return call("log", self)

    def is_null(self) -> Expr:
        """True where it is null, else false; never null itself."""
        return call("is_null", self)

    def is_not_null(self) -> Expr:
        """False where it is null, else true."""
        return ~self.is_null()

    def fill_null(self, value: object) -> Expr:
        """`value` where it is null."""
        return call("fill_null", self, value)

    def is_in(self, values: Iterable[object]) -> Expr:
        """Whether it equals one of `values` (literals)."""
        if isinstance(values, (str, bytes, Expr)) or not isinstance(values, Iterable):
            raise ThymeDefinitionError(
                f"is_in takes a list of literals, got {values!r}",
                hint='write .is_in(["a", "b"])',
                location=caller_location(),
            )
        items = list(values) if not isinstance(values, (set, frozenset)) else values
        return call("is_in", self, Expr({"lit": literal(items)}))

    def between(self, low: object, high: object) -> Expr:
        """`low <= it <= high`."""
        return (self >= low) & (self <= high)

    def json_extract(self, path: str) -> Expr:
        """The text at a path such as `$.a.b[0]` in JSON text; missing or JSON null is null."""
        return call("json_extract", self, path)

    def cast(self, to: type | str) -> Expr:
        """As `int`, `float`, `str`, `bool` or `Decimal`; null where that fails."""
        name = to if isinstance(to, str) else to.__name__
        if name not in ("int", "float", "str", "bool", "Decimal"):
            raise ThymeDefinitionError(
                f"cannot cast to {name}",
                hint=suggestion(name, ["int", "float", "str", "bool", "Decimal"]),
                location=caller_location(),
            )
        return call(f"to_{name.lower()}", self)

    @property
    def str(self) -> StringNamespace:
        """Functions of text: `col("code").str.lower()`."""
        return StringNamespace(self)

    @property
    def dt(self) -> TimeNamespace:
        """Functions of time, UTC: `col("ts").dt.hour()`."""
        return TimeNamespace(self)

    def _shift(self, op: str, length: object) -> Expr:
        return call(op, self, checked_duration(length, "a duration"))

    def __repr__(self) -> str:
        from thyme.expression_names import spell

        return spell(self.node)


class When:
    """`when(condition).then(value)`, to be ended by `.otherwise(value)`."""

    def __init__(self, branches: list[tuple[Expr, Expr]], condition: object) -> None:
        self._branches = branches
        self._condition = as_expr(condition)

    def then(self, value: object) -> Then:
        """The value where the condition is true."""
        return Then([*self._branches, (self._condition, as_expr(value))])


class Then(Expr):
    """Branches so far; without `.otherwise(...)` the rest is null."""

    __slots__ = ("_branches",)

    def __init__(self, branches: list[tuple[Expr, Expr]]) -> None:
        self._branches = branches
        super().__init__(self._node(lit(None)))

    def _node(self, otherwise: Expr) -> dict[str, object]:
        branches = [[condition.node, value.node] for condition, value in self._branches]
        return {"when": {"branches": branches, "otherwise": otherwise.node}}

    def when(self, condition: object) -> When:
        """The next condition, looked at where those before are not true."""
        return When(self._branches, condition)

    def otherwise(self, value: object) -> Expr:
        """The value where no condition is true."""
        return Expr(self._node(as_expr(value)))


def col(name: str) -> Expr:
    """The column `name` of the row."""
    if not isinstance(name, str) or not name:
        raise ThymeDefinitionError(f"col takes a column name, got {name!r}", location=caller_location())
    return Expr({"col": name})


def lit(value: object) -> Expr:
    """A literal. A datetime needs a time zone."""
    return Expr({"lit": literal(value)})


def when(condition: object) -> When:
    """`when(condition).then(value).otherwise(value)`."""
    return When([], condition)


def as_expr(value: object) -> Expr:
    """`value` itself if it is an expression, else a literal."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, When):
        raise ThymeDefinitionError("when(...) needs a .then(...)", location=caller_location())
    return lit(value)


def call(op: str, *arguments: object) -> Expr:
    """An operator or function applied to its arguments."""
    return Expr({"call": {"op": op, "args": [as_expr(argument).node for argument in arguments]}})
