"""Extractors of expressions: definitions for them, random expressions, rows of inputs with their corners."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import textwrap
from datetime import datetime, timezone

import pyarrow as pa

native = importlib.import_module("thyme._native")

T = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)
INPUTS = {"i": "int", "j": "int", "x": "float", "y": "float", "s": "str", "t": "str", "b": "bool", "moment": "datetime"}
KINDS = ("int", "float", "str", "bool")
SOAK = bool(os.environ.get("THYME_SOAK"))

INTS = [0, 1, -1, 2, 3, -7, 100, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 10**12]
FLOATS = [0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, -0.1, 1e300, -1e300, 5e-324, 2.0**53, 9.3e18, 7.25, 1e-9]
TEXTS = ["", "a", "A", "abc", "ABC", " x\t", "\x1cy\x0b", "b", "é", "ß", "İ", "漢字", "\U0001f600z", "abcé"]


TEMPLATES = {
    "int": "(INT + INT)|(INT - INT)|(INT * INT)|(INT % INT)|(INT // INT)|-(INT)|abs(INT)|int(FLOAT)"
    "|round(FLOAT)|len(STR)",
    "float": "(FLOAT + NUMBER)|(FLOAT - NUMBER)|(NUMBER * FLOAT)|(FLOAT % NUMBER)|(FLOAT // NUMBER)|(NUMBER / FLOAT)"
    "|(INT / INT)|-(FLOAT)|abs(FLOAT)|float(NUMBER)",
    "str": "(STR + STR)|(STR).lower()|(STR).upper()|(STR).strip()",
    "bool": "(NUMBER < NUMBER)|(NUMBER >= NUMBER)|(INT == NUMBER)|(FLOAT != INT)|(INT < FLOAT <= FLOAT)|(STR < STR)"
    "|(STR == STR)|(STR in STR)|(STR not in STR)|(STR).startswith(STR)|(STR).endswith(STR)|(not NUMBER)|(not STR)"
    "|((NUMBER) is None)|((STR) is not None)|bool(NUMBER)",
}
SHARED = "(SAME if BOOL else SAME)|(SAME and SAME)|(SAME or SAME)|min(SAME, SAME)|max(SAME, SAME)"
LEAVES = {"int": "i j 0 2 -3", "float": "x y 0.5 1e9", "str": "s t 'a' 'É'", "bool": "b True None"}


def generated(dice, depth, kind):
    """An expression that is mostly of a kind, so that it is not all errors."""
    if depth == 0 or dice.random() < 0.15:
        return dice.choice(LEAVES[kind].split())
    template = dice.choice([*TEMPLATES[kind].split("|"), *SHARED.split("|")])

    def filled(place):
        wanted = {"SAME": kind, "NUMBER": dice.choice(["int", "float"])}.get(place[0], place[0].lower())
        return generated(dice, depth - 1, wanted if dice.random() < 0.95 else dice.choice(KINDS))

    return re.sub("SAME|NUMBER|INT|FLOAT|STR|BOOL", filled, template)


def generated_expressions():
    dice = random.Random(23)
    return [generated(dice, dice.randint(1, 3), dice.choice(KINDS)) for _ in range(1500 if SOAK else 200)]


def rows():
    """Inputs of every kind, with their corners and None in every place."""
    dice = random.Random(29)
    values = {
        "int": lambda: dice.choice([*INTS, dice.randint(-50, 50), dice.randint(-50, 50)]),
        "float": lambda: dice.choice([*FLOATS, dice.uniform(-20, 20), dice.uniform(-20, 20)]),
        "str": lambda: dice.choice(TEXTS),
        "bool": lambda: dice.random() < 0.5,
        "datetime": lambda: T,
    }
    count = 300 if SOAK else 100
    return [{name: None if dice.random() < 0.06 else values[k]() for name, k in INPUTS.items()} for _ in range(count)]


def definitions(source, extractors, style):
    """A featureset F of request features and extractors: name to the names and types of its outputs."""
    ts = {"name": "ts", "type": "datetime", "timestamp": True}
    uid = {"name": "uid", "type": "str", "key": True}
    outputs = [
        {"name": name, "type": kind, "nullable": True} for made in extractors.values() for name, kind in made.items()
    ]
    requests = [{"name": name, "type": kind, "request": True, "nullable": True} for name, kind in INPUTS.items()]
    return json.dumps(
        {
            "format": 1,
            "datasets": [{"name": "Row", "version": 1, "index": True, "fields": [uid, ts]}],
            "pipelines": [],
            "featuresets": [
                {
                    "name": "F",
                    "features": [{"name": "uid", "type": "str"}, *requests, *outputs],
                    "extractors": [
                        {
                            "name": name,
                            "version": 1,
                            "inputs": [{"featureset": "F", "feature": given} for given in INPUTS],
                            "outputs": list(made),
                            "deps": [],
                            "style": style,
                            "batch": False,
                            "module": "features",
                            "qualname": f"F.{name}",
                            "deadline_ms": None,
                            "source_hash": "",
                        }
                        for name, made in extractors.items()
                    ],
                }
            ],
            "modules": [{"name": "features", "path": "features.py", "source": source}],
        }
    )


def method(name, body, style="arguments", marks=""):
    parameters = "inputs" if style == "dict" else ", ".join(INPUTS)
    body = textwrap.indent(textwrap.dedent(body).strip(), "        ")
    return f"{marks}    def {name}(cls, ts, {parameters}):\n{body}\n"


def engine(methods, extractors, style="arguments", before="", functions=None):
    source = before + "class F:\n" + "".join(methods)
    return native.MockEngine(definitions(source, extractors, style), functions), source


def asked(made, given):
    """Per row and feature: value, status, reason."""
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
    types["datetime"] = pa.timestamp("us", "UTC")
    columns = {name: pa.array([row[name] for row in given], types[kind]) for name, kind in INPUTS.items()}
    spine = pa.table({"uid": ["a"] * len(given), **columns, "when": pa.array([T] * len(given), types["datetime"])})
    return made.query_offline("F", spine, timestamp_column="when", statuses=True).to_pylist()


def one(made, **given):
    answer = made.query("F", "a", ts=T, inputs={name: given.get(name) for name in INPUTS})
    return answer["features"] | answer["errors"] | {"native": made.native_extractors}


def in_every_kind(name):
    return {f"{name}_{kind}": kind for kind in KINDS}


def exact(value):
    return (type(value), value.hex() if isinstance(value, float) else value)
