"""Expressions become JSON, and mistakes in them are explained."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from thyme import col, concat, greatest, least, lit, when
from thyme.errors import ThymeDefinitionError

A, B = {"col": "a"}, {"col": "b"}


def call(op: str, *args: object) -> dict:
    return {"call": {"op": op, "args": list(args)}}


def integer(value: int) -> dict:
    return {"lit": {"int": value}}


def text(value: str) -> dict:
    return {"lit": {"str": value}}


a, b = col("a"), col("b")
NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
CASES = [
    (a + 1, call("add", A, integer(1))),
    (1 + a, call("add", integer(1), A)),
    (a - b, call("sub", A, B)),
    (1 - a, call("sub", integer(1), A)),
    (a * 0.5, call("mul", A, {"lit": {"float": 0.5}})),
    (2 * a, call("mul", integer(2), A)),
    (a / b, call("div", A, B)),
    (1 / a, call("div", integer(1), A)),
    (a // 2, call("floordiv", A, integer(2))),
    (7 // a, call("floordiv", integer(7), A)),
    (a % 2, call("mod", A, integer(2))),
    (7 % a, call("mod", integer(7), A)),
    (a**2, call("pow", A, integer(2))),
    (2**a, call("pow", integer(2), A)),
    (-a, call("neg", A)),
    (+a, A),
    (abs(a), call("abs", A)),
    (a.round(), call("round", A)),
    (a.round(2), call("round", A, integer(2))),
    (a.floor(), call("floor", A)),
    (a.ceil(), call("ceil", A)),
    (a.sqrt(), call("sqrt", A)),
    (a.exp(), call("exp", A)),
    (a.log(), call("log", A)),
    (least(a, b, 3), call("least", A, B, integer(3))),
    (greatest(a, b), call("greatest", A, B)),
    (a == 1, call("eq", A, integer(1))),
    (a != None, call("ne", A, {"lit": {"null": None}})),  # noqa: E711
    (a < 1, call("lt", A, integer(1))),
    (a <= 1, call("le", A, integer(1))),
    (a > 1, call("gt", A, integer(1))),
    (a >= 1, call("ge", A, integer(1))),
    (a & b, call("and", A, B)),
    (True & a, call("and", {"lit": {"bool": True}}, A)),
    (a | b, call("or", A, B)),
    (False | a, call("or", {"lit": {"bool": False}}, A)),
    (~a, call("not", A)),
    (a.is_null(), call("is_null", A)),
    (a.is_not_null(), call("not", call("is_null", A))),
    (a.fill_null(0), call("fill_null", A, integer(0))),
    (a.is_in(["x", "y"]), call("is_in", A, {"lit": {"list": [{"str": "x"}, {"str": "y"}]}})),
    (a.between(1, 2), call("and", call("ge", A, integer(1)), call("le", A, integer(2)))),
    (a.str.lower(), call("lower", A)),
    (a.str.upper(), call("upper", A)),
    (a.str.strip(), call("strip", A)),
    (a.str.length(), call("length", A)),
    (a.str.contains("x"), call("contains", A, text("x"))),
    (a.str.starts_with("x"), call("starts_with", A, text("x"))),
    (a.str.ends_with(b), call("ends_with", A, B)),
    (a.str.replace("x", "y"), call("replace", A, text("x"), text("y"))),
    (a.str.slice(1), call("slice", A, integer(1))),
    (a.str.slice(1, 2), call("slice", A, integer(1), integer(2))),
    (a.str.concat("-", b), call("concat", A, text("-"), B)),
    (concat(a, "-", b), call("concat", A, text("-"), B)),
    (a.json_extract("$.a.b[0]"), call("json_extract", A, text("$.a.b[0]"))),
    (a.cast(int), call("to_int", A)),
    (a.cast("float"), call("to_float", A)),
    (a.cast(str), call("to_str", A)),
    (a.cast(bool), call("to_bool", A)),
    (a.cast(Decimal), call("to_decimal", A)),
    (a.cast("Decimal"), call("to_decimal", A)),
    (a * Decimal("0.80"), call("mul", A, {"lit": {"decimal": "0.8"}})),
    (Decimal("1E+3") - a, call("sub", {"lit": {"decimal": "1000"}}, A)),
    (a > Decimal("-0.000"), call("gt", A, {"lit": {"decimal": "0"}})),
    (Decimal("9" * 20) < a, call("gt", A, {"lit": {"decimal": "9" * 20}})),
    *[
        (getattr(a.dt, name)(), call(name, A))
        for name in (
            "year", "month", "day", "hour", "minute", "second", "day_of_week", "day_of_year", "epoch_seconds",
            "epoch_micros",
        )
    ],
    (a.dt.truncate("1h"), call("truncate", A, text("1h"))),
    (a.dt.add("1d12h"), call("add_duration", A, text("1d12h"))),
    (a.dt.subtract(timedelta(minutes=1)), call("sub_duration", A, text("60s"))),
    (a + timedelta(hours=1), call("add_duration", A, text("3600s"))),
    (a - timedelta(hours=1), call("sub_duration", A, text("3600s"))),
    (a.dt.diff_micros(b), call("diff_micros", A, B)),
    (a < NOON, call("lt", A, {"lit": {"datetime": 1_705_320_000_000_000}})),
    (lit(b"\x00\xff"), {"lit": {"bytes": "AP8="}}),
    (lit([1, None]), {"lit": {"list": [{"int": 1}, {"null": None}]}}),
    (
        when(a > 1).then("x").when(a > 0).then(b).otherwise(None),
        {
            "when": {
                "branches": [
                    [call("gt", A, integer(1)), text("x")],
                    [call("gt", A, integer(0)), B],
                ],
                "otherwise": {"lit": {"null": None}},
            }
        },
    ),
    (when(a).then(1), {"when": {"branches": [[A, integer(1)]], "otherwise": {"lit": {"null": None}}}}),
]  # fmt: skip


@pytest.mark.parametrize(("expr", "node"), CASES, ids=[repr(expr) for expr, _ in CASES])
def test_json_form(expr, node):
    assert expr.node == node


MISTAKES = [
    (lambda: bool(a > 1), "neither true nor false.*use & for and"),
    (lambda: 1 < a < 3, "neither true nor false"),
    (lambda: a and b, "neither true nor false"),
    (lambda: list(a), "cannot be iterated over"),
    (lambda: a.isnull(), "no method 'isnull' .hint: did you mean 'is_null'"),
    (lambda: a.str.lowr(), "str has no function 'lowr' .hint: did you mean 'lower'"),
    (lambda: a.dt.hours(), "dt has no function 'hours' .hint: did you mean 'hour'"),
    (lambda: a < datetime(2024, 1, 15), "a datetime without a time zone.*give it a time zone"),
    (lambda: a.is_in("xy"), "is_in takes a list"),
    (lambda: a.cast(bytes), "cannot cast to bytes"),
    (lambda: a.dt.truncate("1month"), "'1month'.*units s m h d w"),
    (lambda: lit(float("nan")), "nan is not a value"),
    (lambda: lit(2**63), "beyond 64 bits"),
    (lambda: lit({}), "a dict cannot be a literal"),
    (lambda: a + when(b), "needs a .then"),
    (lambda: col(1), "col takes a column name, got 1"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_are_explained(mistake, message):
    with pytest.raises(ThymeDefinitionError, match=message) as caught:
        mistake()
    assert caught.value.location.file == __file__


def test_notebooks_may_ask_for_representations():
    assert not hasattr(a, "_repr_html_")
