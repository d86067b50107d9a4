"""The extractor runtime: committed modules, results of every shape, failures, deadlines, lookups, columns."""

from __future__ import annotations

import importlib
import json
import textwrap
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

from thyme import errors

native = importlib.import_module("thyme._native")

T = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)


def definitions(source, outputs, *, style="arguments", batch=False, deadline_ms=None, deps=(), modules=()):
    """One raw dataset, its counts, and a featureset F with one extractor `make` of `uid`, `n` and `ref`."""
    ts = {"name": "ts", "type": "datetime", "timestamp": True}
    uid = {"name": "uid", "type": "str", "key": True}
    names = [{"name": name, "type": kind, "nullable": nullable} for name, kind, nullable in outputs]
    inputs = [{"featureset": "F", "feature": name} for name in ("uid", "n", "ref")]
    return json.dumps(
        {
            "format": 1,
            "datasets": [
                {"name": "Row", "version": 1, "index": True, "fields": [uid, ts, {"name": "v", "type": "int"}]},
                {"name": "Stats", "version": 1, "index": True, "fields": [uid, ts, {"name": "c", "type": "int"}]},
            ],
            "pipelines": [
                {
                    "name": "p",
                    "version": 1,
                    "dataset": "Stats",
                    "input": "Row",
                    "group_by": ["uid"],
                    "aggregates": [{"name": "c", "op": {"kind": "count"}, "window": "1h"}],
                }
            ],
            "featuresets": [
                {
                    "name": "F",
                    "features": [
                        {"name": "uid", "type": "str"},
                        {"name": "n", "type": "int", "request": True},
                        {"name": "ref", "type": "int", "ref": {"dataset": "Stats", "field": "c"}},
                        *names,
                    ],
                    "extractors": [
                        {
                            "name": "make",
                            "version": 1,
                            "inputs": inputs,
                            "outputs": [name for name, _, _ in outputs],
                            "deps": list(deps),
                            "style": style,
                            "batch": batch,
                            "module": "features",
                            "qualname": "F.make",
                            "deadline_ms": deadline_ms,
                            "source_hash": "",
                        }
                    ],
                }
            ],
            "modules": [
                {"name": "features", "path": "features.py", "source": textwrap.dedent(source)},
                *({"name": name, "path": path, "source": textwrap.dedent(text)} for name, path, text in modules),
            ],
        }
    )


def engine(source, outputs=(("out", "int", True),), **settings):
    made = native.MockEngine(definitions(source, outputs, **settings))
    made.add_events("Row", [{"uid": "a", "ts": T, "v": 5}])
    return made


def asked(made, n=7, ts=T):
    return made.query("F", "a", ts=ts, inputs={"n": n})


def reason(made, name="out", **settings):
    answer = asked(made, **settings)
    assert answer["statuses"][name] == "ERROR", answer
    assert answer["features"][name] is None
    assert answer["features"]["ref"] == 1
    return answer["errors"][name]


def test_arguments_come_typed_and_the_time_aware():
    made = engine(
        """
        class F:
            def make(cls, ts, uid, n, ref):
                assert cls is F
                return f"{ts.isoformat()} {uid} {n + 1} {ref + 1}"
        """,
        [("out", "str", False)],
    )
    assert asked(made)["features"]["out"] == "2024-01-15T12:00:00+00:00 a 8 2"


def test_a_parameter_named_inputs_is_a_dict():
    made = engine("class F:\n    def make(cls, ts, inputs): ts.year; return inputs['n'] * 2\n", style="dict")
    assert asked(made)["features"]["out"] == 14


@pytest.mark.parametrize("result", ["(1, 'x')", "{'b': 'x', 'a': 1}"])
def test_tuples_by_order_and_dicts_by_name(result):
    outputs = [("a", "int", False), ("b", "str", False)]
    made = engine(f"class F:\n    def make(cls, ts, uid, n, ref): ts.year; return {result}\n", outputs)
    answer = asked(made)
    assert (answer["features"]["a"], answer["features"]["b"]) == (1, "x")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("(1, 'x', 2)", "returned a tuple of 3 for 2 outputs"),
        ("1", "returned int, expected a tuple or dict of 2 outputs: a, b"),
        ("{'a': 1}", "returned a dict without 'b'"),
        ("{'a': 1, 'b': 'x', 'c': 3}", "returned a dict with 'c', its outputs are a, b"),
    ],
)
def test_a_wrong_shape_names_the_extractor(result, told):
    outputs = [("a", "int", False), ("b", "str", False)]
    made = engine(f"class F:\n    def make(cls, ts, uid, n, ref): ts.year; return {result}\n", outputs)
    assert reason(made, "a") == f"extractor F.make: {told}"


@pytest.mark.parametrize(
    ("kind", "result", "told"),
    [
        ("int", "1.5", "extractor F.make returned float for feature 'out', which is int"),
        ("int", "2**70", "extractor F.make: feature 'out': 1180591620717411303424 is beyond 64 bits"),
        ("float", "float('nan')", "extractor F.make: feature 'out': NaN is not a value"),
        ("float", "float('-inf')", "extractor F.make: feature 'out': -inf is not a value"),
        ("float", "object()", "extractor F.make: feature 'out': a object is not a value"),
        ("float", "None", "extractor F.make returned None for feature 'out', which is float and not Optional"),
        ("datetime", "ts.replace(tzinfo=None)", "extractor F.make: feature 'out': a datetime without a time zone"),
    ],
)
def test_a_wrong_type_says_what_was_returned(kind, result, told):
    made = engine(f"class F:\n    def make(cls, ts, uid, n, ref): ts.year; return {result}\n", [("out", kind, False)])
    assert reason(made).startswith(told)


@pytest.mark.parametrize(
    ("kind", "result", "value"),
    [
        ("float", "3", 3.0),
        ("bool", "n > 5", True),
        ("datetime", "ts", T),
        ("bytes", "b'\\x00\\xff'", b"\x00\xff"),
        ("list[float]", "[1, 2.5]", [1.0, 2.5]),
        ("dict[str, int]", "{'x': 1}", {"x": 1}),
        ("float", "__import__('numpy').float32(0.5)", 0.5),
        ("int", "__import__('numpy').int16(3)", 3),
        ("bool", "__import__('numpy').bool_(True)", True),
        ("list[int]", "__import__('numpy').array([1, 2])", [1, 2]),
    ],
)
def test_values_of_every_type(kind, result, value):
    if "numpy" in result:
        importlib.import_module("numpy")
    made = engine(f"class F:\n    def make(cls, ts, uid, n, ref): ts.year; return {result}\n", [("out", kind, False)])
    out = asked(made)["features"]["out"]
    assert out == value
    assert type(out) is type(value)


def test_what_is_raised_is_told_with_its_place():
    made = engine(
        """
        class F:
            def make(cls, ts, uid, n, ref):
                raise ValueError("no luck")
        """
    )
    assert reason(made) == "extractor F.make: raised ValueError: no luck (features.py:4)"


def test_an_endless_loop_is_interrupted_and_the_next_call_works():
    made = engine(
        """
        class F:
            def make(cls, ts, uid, n, ref):
                while n == 0:
                    try:
                        pass
                    except Exception:
                        pass
                return n
        """,
        deadline_ms=50,
    )
    assert reason(made, n=0) == "extractor F.make: did not return within 50 ms and was interrupted"
    for n in range(1, 30):
        assert asked(made, n=n)["features"]["out"] == n


def test_a_call_stuck_in_native_code_fails_and_its_worker_is_replaced():
    made = engine(
        """
        import threading
        class F:
            def make(cls, ts, uid, n, ref):
                if n == 0:
                    threading.Lock().acquire() and threading.Semaphore(0)._cond._lock
                    __import__("time").sleep(3)
                return n
        """,
        deadline_ms=50,
    )
    for _ in range(6):
        assert "its worker was replaced" in reason(made, n=0)
    assert asked(made, n=3)["features"]["out"] == 3


def test_helpers_travel_and_deployments_do_not_meet():
    def made(number):
        return engine(
            """
            from helpers import amount
            import pkg.deep
            from pkg import side
            class F:
                def make(cls, ts, uid, n, ref):
                    from helpers import amount as late
                    assert late is amount
                    return amount(n) + pkg.deep.ONE + side.ONE
            """,
            modules=[
                ("helpers", "helpers.py", f"from pkg.deep import ONE\ndef amount(n): return n * {number} * ONE\n"),
                ("pkg", "pkg/__init__.py", ""),
                ("pkg.deep", "pkg/deep.py", "from . import side\nONE = side.ONE\n"),
                ("pkg.side", "pkg/side.py", "ONE = 1\n"),
            ],
        )

    first, second = made(10), made(100)
    assert asked(first)["features"]["out"] == 72
    assert asked(second)["features"]["out"] == 702
    assert asked(first)["features"]["out"] == 72


def test_a_missing_package_is_named_with_the_python():
    with pytest.raises(errors.ThymeDefinitionError) as raised:
        engine("import no_such_package_at_all.sub\nclass F: pass\n")
    assert "module 'features' needs the package 'no_such_package_at_all', which is not installed for Python 3." in str(
        raised.value
    )


def test_a_module_that_raises_is_told_with_its_place():
    with pytest.raises(errors.ThymeDefinitionError) as raised:
        engine("x = 1\nraise RuntimeError('at import')\n")
    message = str(raised.value)
    assert "module 'features' cannot be imported: RuntimeError: at import (features.py:2)" in message


def test_a_missing_function_is_named():
    with pytest.raises(errors.ThymeDefinitionError) as raised:
        engine("class F: pass\n")
    assert "has no attribute 'make'" in str(raised.value)


LOOKS_UP = """
    from datetime import timedelta
    from thyme._runtime import current
    class F:
        def make(cls, ts, uid, n, ref):
            row = current().lookup({dataset!r}, ts + timedelta(microseconds=n), {{"uid": uid}})
            return None if row is None else row[{field!r}]
"""


def test_lookups_read_the_questions_own_time():
    made = engine(LOOKS_UP.format(dataset="Stats", field="c"), deps=["Stats"])
    assert asked(made, n=0)["features"]["out"] == 1
    assert asked(made, n=-1)["features"]["out"] == 0
    told = reason(made, n=1)
    assert "a lookup at 2024-01-15T12:00:00.000001Z is later than the question's time" in told


def test_a_raw_lookup_gives_the_newest_row_or_none():
    made = engine(LOOKS_UP.format(dataset="Row", field="v"), deps=["Row"])
    assert asked(made, n=0)["features"]["out"] == 5
    assert asked(made, n=-1)["features"]["out"] is None


def test_a_lookup_of_what_was_not_declared_raises():
    made = engine(LOOKS_UP.format(dataset="Row", field="v"), deps=["Stats"])
    assert "'Row' is not among the extractor's deps" in reason(made, n=0)


@pytest.mark.parametrize(
    "body",
    [
        "return pc.add(n, pc.add(ref, 1))",
        "return {'out': [a + b + 1 for a, b in zip(n.to_pylist(), ref.to_pylist())]}",
        "return n.to_numpy(zero_copy_only=False) + ref.to_numpy(zero_copy_only=False) + 1",
    ],
)
def test_columns_in_and_out(body):
    importlib.import_module("numpy")
    source = f"""
        import pyarrow.compute as pc
        class F:
            def make(cls, ts, uid, n, ref):
                assert len(ts) == len(uid) == len(n)
                {body}
    """
    made = engine(source, batch=True)
    assert asked(made)["features"]["out"] == 9
    spine = pa.table(
        {
            "uid": ["a", None, "a", "a"],
            "n": [1, 2, 3, 4],
            "when": pa.array([T, T, None, T - timedelta(hours=2)], pa.timestamp("us", "UTC")),
        }
    )
    joined = made.query_offline("F", spine, timestamp_column="when", statuses=True)
    assert joined["out"].to_pylist() == [3, 3, None, 5]
    assert joined["out__status"].to_pylist() == ["OK", "OK", "ERROR", "OK"]


def test_too_few_columns_fail_all_rows():
    made = engine("class F:\n    def make(cls, ts, uid, n, ref): return [1, 2, 3]\n", batch=True)
    assert reason(made) == "extractor F.make: returned 3 values for 'out', expected 1"
