"""What importing has registered: datasets, sources and featuresets by name.

Registering runs nothing. A module that is loaded again (a notebook cell, `importlib.reload`) replaces its own
definitions; two different classes of one name are an error.
"""

from __future__ import annotations

import ast
import contextlib
import linecache
from collections.abc import Iterator
from typing import TYPE_CHECKING

from thyme.errors import ThymeDefinitionError

if TYPE_CHECKING:
    from thyme.dataset import DatasetDefinition
    from thyme.featureset import FeaturesetDefinition


class Registry:
    """Definitions by name, in order of registration."""

    def __init__(self) -> None:
        self.datasets: dict[str, DatasetDefinition] = {}
        self.featuresets: dict[str, FeaturesetDefinition] = {}

    def add_dataset(self, definition: DatasetDefinition) -> None:
        """Registers a dataset; refuses a name that another class holds."""
        self._check_name(definition)
        self.datasets[definition.name] = definition

    def add_featureset(self, definition: FeaturesetDefinition) -> None:
        """Registers a featureset; refuses a name that another class holds."""
        self._check_name(definition)
        self.featuresets[definition.name] = definition

    def _check_name(self, definition: DatasetDefinition | FeaturesetDefinition) -> None:
        held = self.datasets.get(definition.name) or self.featuresets.get(definition.name)
        if held is None:
            return
        if type(held) is type(definition) and _replaces(held, definition):
            return
        raise ThymeDefinitionError(
            f"the name '{definition.name}' is taken: first defined at {held.location}",
            hint="names of datasets and featuresets are unique; rename one of them",
            field=definition.name,
            location=definition.location,
        )


def _replaces(held: DatasetDefinition | FeaturesetDefinition, new: DatasetDefinition | FeaturesetDefinition) -> bool:
    """Whether `new` is the same class loaded again, or a class of a function that runs again."""
    if held.location is not None and held.location == new.location:
        return True
    if held.cls.__module__ != new.cls.__module__:
        return False
    if "<locals>" in held.cls.__qualname__ and "<locals>" in new.cls.__qualname__:
        return True
    same_file = held.location and new.location and held.location.file == new.location.file
    return held.cls.__qualname__ == new.cls.__qualname__ and not (same_file and _stands_twice(new))


def _stands_twice(definition: DatasetDefinition | FeaturesetDefinition) -> bool:
    file = definition.location.file if definition.location else ""
    linecache.checkcache(file)
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return False
    return sum(isinstance(node, ast.ClassDef) and node.name == definition.cls.__name__ for node in tree.body) > 1


_current = Registry()


def current() -> Registry:
    """The registry that decorators write to."""
    return _current


@contextlib.contextmanager
def isolated() -> Iterator[Registry]:
    """A fresh registry for the time of the `with` block: for tests and for loading a committed module beside others."""
    global _current
    before, _current = _current, Registry()
    try:
        yield _current
    finally:
        _current = before
