"""Fixtures of all Python tests."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from thyme import registry

MODULES = Path(__file__).parent / "modules"
sys.path.append(str(Path(__file__).parents[2] / "integration"))  # its harness


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """Every test starts with nothing registered."""
    with registry.isolated():
        yield


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Imports a module of `tests/modules` afresh, as `thyme commit` would."""
    monkeypatch.syspath_prepend(str(MODULES))
    before = set(sys.modules)

    def load_module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load_module
    for name in set(sys.modules) - before:
        if str(MODULES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
