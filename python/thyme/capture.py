"""What travels with a commit: the source of extractors, of their modules and of the helpers beside them."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from thyme.errors import ThymeDefinitionError
from thyme.location import function_location, is_ours

_INSTALLED = {"site-packages", "dist-packages", ".venv", "venv"}


@dataclass(frozen=True)
class CapturedModule:
    """A module that travels: dotted name, path below the committed directory, source."""

    name: str
    path: str
    source: str


def function_source(function: Callable[..., Any]) -> tuple[str, str]:
    """The source of a function, and the SHA-256 of it in hex.

    Raises:
        ThymeDefinitionError: the source cannot be read (typed into a bare prompt, for example).
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise ThymeDefinitionError(
            f"cannot read the source of {function.__qualname__}: {error}",
            hint="write definitions in a file or a notebook",
            location=function_location(function),
        ) from error
    return source, hashlib.sha256(source.encode("utf-8")).hexdigest()


def module_root(module: ModuleType) -> Path | None:
    """The directory from which a module is imported: of `pkg.features` the one that holds `pkg`. None if none."""
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    levels = module.__name__.count(".") + (1 if path.name == "__init__.py" else 0)
    return path.parents[levels]


def travels(module: ModuleType, root: Path) -> bool:
    """Whether a module lies below `root` and is not an installed package."""
    file = getattr(module, "__file__", None)
    if file is None or is_ours(file) or not file.endswith(".py"):
        return False
    path = Path(file).resolve()
    return path.is_relative_to(root) and not _INSTALLED.intersection(path.relative_to(root).parts)


def capture_modules(names: Iterable[str], root: Path) -> list[CapturedModule]:
    """The named modules and, transitively, every module below `root` that they import, in order of name."""
    found: dict[str, CapturedModule] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in found or module is None or not travels(module, root):
            continue
        path = Path(module.__file__).resolve()
        source = path.read_text(encoding="utf-8")
        found[name] = CapturedModule(name, path.relative_to(root).as_posix(), source)
        waiting.extend(_imports(source, module))
        waiting.extend(name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1))
    return [found[name] for name in sorted(found)]


def _imports(source: str, module: ModuleType) -> list[str]:
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(relative, package) if node.level else relative
            except ImportError:
                continue
            names.append(base)
            names.extend(f"{base}.{alias.name}" for alias in node.names)
    return names
