"""The symbolic rows that a pipeline body receives: `rows.filter(...).assign(...).groupby(...).aggregate(...)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thyme.aggregates import Aggregate
from thyme.arguments import not_in_this_release
from thyme.errors import ThymeDefinitionError
from thyme.expression_names import columns_of
from thyme.expressions import Expr, When, as_expr
from thyme.location import caller_location
from thyme.suggest import suggestion

if TYPE_CHECKING:
    from thyme.dataset import DatasetDefinition

_LATER = (
    "join",
    "transform",
    "union",
    "dedup",
    "explode",
    "first",
    "latest",
    "select",
    "drop",
    "rename",
    "sort",
    "window",
)


class _Symbolic:
    _what = "rows"
    _methods: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _LATER:
            raise not_in_this_release(f"{name}()", f"allowed here: {', '.join(self._methods)}", caller_location())
        raise ThymeDefinitionError(
            f"{self._what} have no method '{name}'",
            hint=suggestion(name, self._methods),
            field=name,
            location=caller_location(),
        )

    def __bool__(self) -> bool:
        raise ThymeDefinitionError(
            f"{self._what} of a pipeline are symbolic: they cannot be tested", location=caller_location()
        )

    def __iter__(self) -> object:
        raise ThymeDefinitionError(
            f"{self._what} of a pipeline are symbolic: they cannot be iterated over", location=caller_location()
        )


class Frame(_Symbolic):
    """Rows of a dataset, each with its columns."""

    _methods = ("filter", "assign", "groupby")

    def __init__(
        self,
        where: str,
        source: DatasetDefinition,
        columns: list[str] | None = None,
        steps: list[dict[str, object]] | None = None,
    ) -> None:
        self._where = where
        self._source = source
        self._columns = [found.name for found in source.fields] if columns is None else columns
        self._steps = steps or []

    def filter(self, *predicates: object) -> Frame:
        """Keeps the rows for which every predicate is true (not false, not null)."""
        if not predicates:
            raise ThymeDefinitionError(
                "filter has no predicate", hint='write .filter(col("amount") > 0)', location=caller_location()
            )
        steps = [{"op": "filter", "expr": self._checked(predicate, "filter").node} for predicate in predicates]
        return Frame(self._where, self._source, self._columns, self._steps + steps)

    def assign(self, **columns: object) -> Frame:
        """Adds or replaces columns, in order; later ones see earlier ones."""
        if not columns:
            raise ThymeDefinitionError(
                "assign has no column", hint='write .assign(net=col("amount") * 0.8)', location=caller_location()
            )
        known, assigned = list(self._columns), []
        for name, value in columns.items():
            expr = Frame(self._where, self._source, known)._checked(value, name)
            assigned.append({"name": name, "expr": expr.node})
            if name not in known:
                known.append(name)
        return Frame(self._where, self._source, known, [*self._steps, {"op": "assign", "columns": assigned}])

    def groupby(self, *names: object) -> Grouped:
        """Groups by one or more columns, named like the key fields of the dataset to fill."""
        listed = [name for given in names for name in (given if isinstance(given, (list, tuple)) else [given])]
        flat = [
            given.node["col"] if isinstance(given, Expr) and set(given.node) == {"col"} else given for given in listed
        ]
        if not flat:
            raise ThymeDefinitionError(
                "groupby names no column", hint='write .groupby("user_id")', location=caller_location()
            )
        for name in flat:
            if not isinstance(name, str):
                raise ThymeDefinitionError(
                    f"groupby takes column names, got {name!r}",
                    hint="compute the column with .assign(name=...) first",
                    location=caller_location(),
                )
            self._check_column(name, "groupby")
        if len(set(flat)) != len(flat):
            raise ThymeDefinitionError(f"groupby names a column twice: {', '.join(flat)}", location=caller_location())
        return Grouped(self, flat)

    def _checked(self, value: object, where: str) -> Expr:
        if isinstance(value, (Frame, When)) or (callable(value) and not isinstance(value, Expr)):
            raise ThymeDefinitionError(
                f"{where} takes an expression, got {value!r}",
                hint='write it with col(...): col("amount") * 0.8',
                location=caller_location(),
            )
        expr = as_expr(value)
        for name in columns_of(expr.node):
            self._check_column(name, where)
        return expr

    def _check_column(self, name: str, where: str) -> None:
        if name not in self._columns:
            raise ThymeDefinitionError(
                f"{self._where}: unknown column '{name}' of {self._source.name} in {where}",
                hint=suggestion(name, self._columns),
                field=name,
                location=caller_location(),
            )


class Grouped(_Symbolic):
    """Grouped rows; `.aggregate(...)` ends the pipeline."""

    _what = "grouped rows"
    _methods = ("aggregate",)

    def __init__(self, frame: Frame, group_by: list[str]) -> None:
        self._frame = frame
        self._group_by = group_by

    def aggregate(self, **aggregates: object) -> AggregatedFrame:
        """One aggregate per field of the dataset to fill: `orders_1h=Count(window="1h")`."""
        if not aggregates:
            raise ThymeDefinitionError(
                "aggregate has no aggregates", hint='write .aggregate(n=Count(window="1h"))', location=caller_location()
            )
        for name, aggregate in aggregates.items():
            if not isinstance(aggregate, Aggregate):
                called = isinstance(aggregate, type) and issubclass(aggregate, Aggregate)
                raise ThymeDefinitionError(
                    f"{name} is not an aggregate: {aggregate!r}",
                    hint=f"write {name}={aggregate.example}" if called else f'write {name}=Count(window="1h")',
                    field=name,
                    location=caller_location(),
                )
            if aggregate.of is not None:
                self._frame._check_column(aggregate.of, f"{name}={aggregate!r}")
            if aggregate.where is not None:
                self._frame._checked(aggregate.where, f"where= of {name}")
        return AggregatedFrame(self._frame._steps, self._group_by, dict(aggregates))


@dataclass
class AggregatedFrame:
    """What a pipeline body returns."""

    steps: list[dict[str, object]]
    group_by: list[str]
    aggregates: dict[str, Aggregate]
