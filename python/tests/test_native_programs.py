"""Extractors that run without the interpreter answer what their function answers in Python, row for row."""

from __future__ import annotations

import ast
import sys
import textwrap

import pytest
from native_programs import (
    INPUTS,
    KINDS,
    T,
    asked,
    engine,
    exact,
    generated_expressions,
    in_every_kind,
    method,
    one,
    rows,
)

EXPRESSIONS = """
i + j | i - j | i * j | i / j | i // j | i % j | x + y | x - y | x * y | x / y | x // y | x % y | i + x | x - i
i * y | i / x | x // i | i % y | y % j | -i | +i | -x | +x | -b | +b | b + b | b * i | x + b | not i | not x | not s
not b | i / j if j else 0.0 | x / y if y else 0.0 | i if i is not None else 0 | i is None | x is not None | s is None
i < j | i <= j | x > y | x >= y | i == j | i != x | i == x | i < x | x <= j | s < t | s >= t | s == t | s != i
b == i | 0 < i < 10 | -1.5 <= x < y <= 100 | i < j != b | i and j | i or j | x or y or 1.0 | s and t | not (i or x)
i and x or 2 | b and not s | min(i, j) | max(i, j) | min(x, y, 1.0) | max(i, x) | min(i, x, j) | max(b, i) | min(s, t)
max(s, t, "b") | max(0, i) | min(1.0, x) | max(b, 1) | min(0.0, -x) | max(-x, 0.0) | abs(i) | abs(x) | abs(b)
abs(-x) | round(x) | round(i) | round(b) | round(x * 10) | round(-x) | int(x) | int(i) | int(b) | int(s) | float(i)
float(b) | float(x) | float(s) | bool(i) | bool(x) | bool(s) | bool(None) | len(s) | len(s + t) | s + t | s + "é"
s.lower() | s.upper() | s.strip() | s.strip().lower() == t | s.startswith(t) | s.endswith("c") | s in t | s not in t
"b" in s | i in s | s in ("a", "abc", "é") | i in (1, 2.0, 7) | x not in [0.5, 1, None] | i * 1.0 | i // 1 | x // 1
x % 1 | 7 | 2.5 | "é" | None | True | -3 | i + True | 1 if s else 2.0 | s if i else x | (i if b else x) + 1
i % 7 * 3 - 2 | -7 // i | -7.5 % x | 1e308 * x | s + i | s * 2 | s % t | i + None | None == i | None == s | x < None
9223372036854775807 + i | 4503599627370497.5 + x | s < i | b < x | x and 1 | round(x) % 2 == 0
i - j > 0 and x > y or b | (i + 1) / (j + 1) | (i - j) / (i + j) if i + j != 0 else None | 0.1 + x
""".replace("\n", "|").split("|")
EXPRESSIONS = [text.strip() for text in EXPRESSIONS if text.strip()]

BODIES = {
    "branches": """
        if i is None or j is None:
            return None
        elif i > j:
            return i
        return j - i
    """,
    "locals": """
        '''With a docstring.'''
        total = i + j
        share: float = i / total
        share *= 2
        return share
    """,
    "assigned parameters": """
        i = i or 0
        if x is None:
            x = 1.5
        x += i
        return x
    """,
    "falls off the end": """
        if b:
            return i
        else:
            pass
    """,
    "assigned on every path": """
        if b:
            n = i
        elif x:
            n = x
        else:
            return s
        return n
    """,
    "levels": """
        if x < 0:
            level = "low"
        elif x < 2.5:
            level = "mid"
        else:
            level = "high"
        return level + s
    """,
}


def compared(named_bodies, given, style="arguments"):
    """Each body natively, and kept in Python by reading ts: answers, types and errors are the same.

    Returns per body how many rows were values.
    """
    methods, extractors = [], {}
    for number, body in enumerate(named_bodies):
        shown = textwrap.dedent(body).strip()
        for name, first in ((f"native{number}", "pass"), (f"kept{number}", "ts.year")):
            outputs = in_every_kind(name)
            extractors[name] = outputs
            methods.append(method(name, f"{first}\n{shown}", style))
    made, source = engine(methods, extractors, style)
    assert made.warnings == []
    scope = {}
    exec(source, scope)
    answers = asked(made, given)
    values = []
    for number, body in enumerate(named_bodies):
        assert f"F.kept{number}" not in made.native_extractors
        found = 0
        for row, answer in zip(given, answers, strict=True):
            try:
                arguments = [row] if style == "dict" else list(row.values())
                wanted = getattr(scope["F"], f"native{number}")(scope["F"], T, *arguments)
            except Exception as error:
                wanted = [error] * len(KINDS)
            for kind, result in zip(KINDS, wanted, strict=True):
                name, kept = f"native{number}_{kind}", f"kept{number}_{kind}"
                plain = [answer[name], answer.get(f"{name}__status"), answer.get(f"{name}__error")]
                twin = [answer[kept], answer.get(f"{kept}__status"), answer.get(f"{kept}__error")]
                assert [str(part).replace("native", "kept") for part in plain] == [str(part) for part in twin], body
                if type(result).__name__ == kind and twin[1] == "OK":
                    assert exact(plain[0]) == exact(result + 0.0 if kind == "float" else result), (body, row)
                    found += 1
        values.append(found)
    return made, values


def returned(body):
    """The body with each result given as an int, a float, a str and a bool: the one of its type is a value."""
    lines = textwrap.dedent(body).strip().split("\n")
    return "\n".join(
        f"{line}, {line.split('return ', 1)[1]}" + f", {line.split('return ', 1)[1]}" * 2 if "return " in line else line
        for line in lines
    )


@pytest.mark.parametrize("style", ["arguments", "dict"])
def test_every_expression_gives_what_python_gives(style):
    bodies = [f"return {text}, {text}, {text}, {text}" for text in EXPRESSIONS]
    if style == "dict":
        names = {name: f'inputs["{name}"]' for name in INPUTS}
        bodies = [renamed(body, names) for body in bodies]
    made, values = compared(bodies, rows(), style)
    in_python = [EXPRESSIONS[at] for at in range(len(bodies)) if f"F.native{at}" not in made.native_extractors]
    # Those that are never sure of a row: programs that are of no use.
    assert sorted(in_python) == sorted(
        ["i + None", "float(s)", "int(s)", "x < None", "s % t", "s * 2", "s + i", "s < i", "i in s"]
    )
    useless = {text for text, count in zip(EXPRESSIONS, values, strict=True) if count == 0}
    assert useless <= {"None", *in_python}


def renamed(body, names):
    class Renamed(ast.NodeTransformer):
        def visit_Name(self, node):
            return ast.parse(names[node.id], mode="eval").body if node.id in names else node

    return ast.unparse(Renamed().visit(ast.parse(body)))


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_generated_expressions_give_what_python_gives():
    texts = generated_expressions()
    made, values = compared([f"return {text}, {text}, {text}, {text}" for text in texts], rows())
    assert len(made.native_extractors) > len(texts) * 0.8
    assert sum(1 for count in values if count > 30) > len(texts) * 0.7


def test_statements_give_what_python_gives():
    bodies = [returned(body) for name, body in BODIES.items() if name != "falls off the end"]
    made, values = compared(bodies, rows())
    assert made.native_extractors == [f"F.native{at}" for at in range(len(BODIES) - 1)]
    assert min(values) > 30


def test_a_function_that_falls_off_the_end_gives_none():
    made, _ = engine([method("make", BODIES["falls off the end"])], {"make": {"out": "int"}})
    assert made.native_extractors == ["F.make"]
    assert [one(made, b=flag, i=3)["out"] for flag in (True, False, None)] == [3, None, None]


@pytest.mark.parametrize(
    "body",
    [
        "return i, s",
        "return (i, s) if b else (0, 'x')",
        "return {'s_out': s, 'i_out': i}",
        "return {'i_out': i, 's_out': s} if b else (0, 'x')",
        "return [i, s]",
    ],
)
def test_several_outputs(body):
    made, _ = engine([method("make", body)], {"make": {"i_out": "int", "s_out": "str"}})
    assert made.native_extractors == ["F.make"]
    answer = one(made, i=5, s="é", b=True)
    assert (answer["i_out"], answer["s_out"]) == (5, "é")


NOT_NATIVE = {
    "reads ts": "return ts.year",
    "uses cls": "return i if cls else 0",
    "a helper": "return helper(i)",
    "a global": "return LIMIT + i",
    "an attribute": "return x.real",
    "a loop": "for n in (1, 2):\n    i = n\nreturn i",
    "a while": "while i:\n    i = 0\nreturn i",
    "a try": "try:\n    return i\nexcept Exception:\n    return 0",
    "a with": "with open('x'):\n    return i",
    "a lambda": "return (lambda: i)()",
    "a comprehension": "return [n for n in (i,)][0]",
    "an import": "import math\nreturn i",
    "a function": "def inner():\n    return i\nreturn inner()",
    "an f-string": "return f'{i}'",
    "a power": "return i ** 2",
    "a shift": "return i << 2",
    "an identity": "return i is j",
    "an index": "return s[0]",
    "another dict": "return {'a': i}['a']",
    "a global statement": "global LIMIT\nLIMIT = i\nreturn i",
    "a local that may be unassigned": "if b:\n    n = 1\nreturn n",
    "a local that is never assigned": "return n\nn = 1",
    "a walrus": "return (n := i)",
    "an unpacking": "n, m = i, j\nreturn n",
    "a raise": "if i:\n    raise ValueError\nreturn i",
    "an assert": "assert i\nreturn i",
    "a yield in vain": "return i\nyield",
    "a shadowed builtin": "return sum(i, j)",
    "a builtin of the module": "return abs(i)",
    "a builtin that a function assigns": "return len(s)",
    "a builtin as a local": "min = i\nreturn min(i, j)",
    "keywords": "return min(i, j, key=None)",
    "a star": "return min(*(i, j))",
    "digits": "return round(x, 2)",
    "one argument": "return min(s)",
    "another method": "return s.title()",
    "arguments of strip": "return s.strip('a')",
    "a tuple of starts": "return s.startswith(('a', 'b'))",
    "a time": "return moment is None",
    "a big int": "return 9223372036854775808 + i",
    "infinity": "return 1e999",
    "a tuple too long": "return i, j",
    "a dict of another output": "return {'other': i}",
    "a list": "return [i]",
    "bytes": "return b'x'",
    "a surrogate": "return '\\ud800'",
    "too deep": "return " + "+".join(["i"] * 300),
}  # fmt: skip


def test_what_is_no_plain_expression_stays_in_python():
    before = """
LIMIT = 3
def helper(n): return n
def sum(*n): return 7
abs = helper
def unused():
    global len
    len = helper
"""
    names = {name: f"make{number}" for number, name in enumerate(NOT_NATIVE)}
    extractors = {made: {f"{made}_out": "int"} for made in names.values()}
    methods = [method(names[name], body) for name, body in NOT_NATIVE.items()]
    made, _ = engine(methods, extractors, before=before)
    assert made.native_extractors == []
    answer = one(made, i=5, j=7, s="abc", x=2.5, b=True)
    assert answer[f"{names['a shadowed builtin']}_out"] == 7
    assert answer[f"{names['a global']}_out"] == 8


@pytest.mark.parametrize(
    "parameters", ["cls, ts, *inputs", f"cls, ts, {', '.join(INPUTS)}, more=1", f"cls, ts, {', '.join(INPUTS)}, *more"]
)
def test_other_signatures_stay_in_python(parameters):
    made, _ = engine([f"    def make({parameters}): return 3\n"], {"make": {"out": "int"}})
    assert made.native_extractors == []
    assert one(made)["out"] == 3


def test_what_another_decorator_gives_stays_in_python():
    before = "def twice(f):\n    return lambda *given: 2 * f(*given)\ndef same(f):\n    return f\n"
    methods = [method("make", "return i", marks="    @twice\n"), method("kept", "return i", marks="    @same\n")]
    made, _ = engine(methods, {"make": {"out": "int"}, "kept": {"out2": "int"}}, before=before)
    assert made.native_extractors == ["F.kept"]
    answer = one(made, i=4)
    assert (answer["out"], answer["out2"]) == (8, 4)


def test_a_module_that_changes_its_class_is_not_misread():
    made, _ = engine(
        [method("make", "return i + 1"), "    make = lambda cls, ts, *given: 99\n"], {"make": {"out": "int"}}
    )
    assert made.native_extractors == []
    assert one(made, i=4)["out"] == 99


def test_uncertain_rows_keep_their_places_and_errors():
    made, _ = engine([method("make", "return i // j")], {"make": {"out": "int"}})
    given = [
        dict.fromkeys(INPUTS) | {"i": i, "j": j}
        for i, j in [(7, 2), (1, 0), (-7, 2), (5, None), (-(2**63), -1), (9, 9)]
    ]
    assert [(row["out"], row["out__status"]) for row in asked(made, given)] == [
        (3, "OK"), (None, "ERROR"), (-4, "OK"), (None, "ERROR"), (None, "ERROR"), (1, "OK"),
    ]  # fmt: skip
    assert made.native_extractors == ["F.make"]
    told = one(made, i=1, j=0)["out"]
    assert told == "extractor F.make: raised ZeroDivisionError: integer division or modulo by zero (features.py:3)"
    assert (
        one(made, i=-(2**63), j=-1)["out"] == "extractor F.make: feature 'out': 9223372036854775808 is beyond 64 bits"
    )


class Live:
    def make(cls, ts, i, j, x, y, s, t, b, moment):
        return i / j if j else 0.0


def other(cls, ts, i, j, x, y, s, t, b, moment):
    raise ValueError("in Python")


def live(function=None):
    bound = (function or Live.make).__get__(Live)
    return engine([], {"make": {"out": "float"}}, functions={"F.make": bound})[0]


def test_rows_that_are_sure_never_reach_python(monkeypatch):
    made = live()
    assert made.native_extractors == ["F.make"]
    monkeypatch.setattr(Live.make, "__code__", other.__code__)
    assert one(made, i=1, j=4)["out"] == 0.25
    assert "ValueError: in Python" in one(made, i=2**60, j=3)["out"]


def test_a_function_that_is_not_what_its_source_says_stays_in_python(monkeypatch):
    monkeypatch.setattr(Live.make, "__code__", Live.make.__code__.replace(co_consts=(None, 7.0)))
    made = live()
    assert made.native_extractors == []
    assert one(made, i=1, j=0)["out"] == 7.0


def test_a_callable_without_source_stays_in_python():
    scope = {}
    exec("def make(cls, ts, i, j, x, y, s, t, b, moment): return 1.0", scope)
    made = live(scope["make"])
    assert made.native_extractors == []
    assert one(made)["out"] == 1.0


WRONG = [
    ("return i + j", '"Add"', '"Sub"', "int"),
    ("return x / y if y else 0.0", '{"Float": 0.0}', '{"Int": 0}', "float"),
    ("return i if i > 1000003 else 0", "1000003", "1000004", "int"),
    ("return 'a' if x < 12.3456 else 'b'", '"Lt"', '"LtE"', "str"),
    ("return s == 'rare'", '"rare"', '"rarer"', "bool"),
    ("return min(i, x)", '"Min"', '"Max"', "float"),
    ("return s.lower()", '"Lower"', '"Strip"', "str"),
    ("return round(x)", '"Round"', '"Int"', "int"),
    ("return i or j", '"Or"', '"And"', "int"),
    ("return x is None", '"IsNone"', '"Not"', "bool"),
]


@pytest.mark.parametrize(("body", "right", "wrong", "kind"), WRONG)
def test_a_wrong_program_is_refused(monkeypatch, body, right, wrong, kind):
    live()
    compiler = sys.modules["thyme._compiler"]
    compiled = compiler.program

    def spoiled(*arguments):
        text = compiled(*arguments)
        assert right in text
        return text.replace(right, wrong)

    extractors, methods = {"make": {"out": kind}}, [method("make", body)]
    assert engine(methods, extractors)[0].native_extractors == ["F.make"]
    monkeypatch.setattr(compiler, "program", spoiled)
    made, source = engine(methods, extractors)
    assert made.native_extractors == []
    [warning] = made.warnings
    assert warning.startswith("extractor F.make stays in Python: its native form is wrong, please report it (")
    scope = {}
    exec(source, scope)
    given = {"i": 3, "j": 4, "x": 2.5, "y": 2.0, "s": "Ab "}
    assert one(made, **given)["out"] == scope["F"].make(None, T, *(given.get(name) for name in INPUTS))
