"""The native module and its stub name the same things."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

native = importlib.import_module("thyme._native")


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_every_native_export_is_in_the_stub():
    import thyme

    stub = ast.parse((Path(thyme.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))
    named = {node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert public(vars(native)) == public(named)
    for name, node in named.items():
        if isinstance(node, ast.ClassDef):
            methods = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
            assert public(vars(getattr(native, name))) == public(methods), name


def test_versions_agree():
    from thyme.version import __version__

    assert native.version() == __version__
