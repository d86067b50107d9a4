"""Imports the modules whose definitions are to be committed."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

from thyme import registry
from thyme.capture import module_root
from thyme.errors import Location, NotFoundError, ThymeDefinitionError, ThymeError
from thyme.location import error_location

_SKIPPED = ("_", "test_", "conftest", "setup.")
_FROM_SOURCE: set[Path] = set()


def load_path(path: str | Path) -> Path:
    """Imports a file, or every module of a directory; returns the directory whose modules travel with a commit.

    Raises:
        NotFoundError: no such file or directory.
        ThymeDefinitionError: the import fails, or nothing is defined.
    """
    found = Path(path).resolve()
    if not found.exists():
        raise NotFoundError(f"no such file or directory: {path}", hint="give a Python file or a directory of them")
    if found.is_file() and found.suffix != ".py":
        raise ThymeDefinitionError(f"not a Python file: {path}", hint="give a .py file or a directory")
    root = found if found.is_dir() else found.parent
    names = [found.stem]
    if found.is_dir():
        names = [file.stem for file in sorted(found.glob("*.py")) if not file.name.startswith(_SKIPPED)]
        if not names:
            raise NotFoundError(f"no Python files in {path}")
    while (root / "__init__.py").is_file():  # a module of a package is imported by its full name
        names = [f"{root.name}.{name}" for name in names]
        root = root.parent
    _import_from(root)
    for name in names:
        import_module(name)
    _refuse_nothing(str(path))
    return root


def load_module(name: str) -> Path | None:
    """Imports a module by dotted name; returns the directory whose modules travel with a commit (None: installed).

    Raises:
        ThymeDefinitionError: the import fails, or nothing is defined.
    """
    module = import_module(name)
    _refuse_nothing(name)
    root = module_root(module)
    installed = root is not None and {"site-packages", "dist-packages"}.intersection(root.parts)
    return None if installed else root


def import_module(name: str) -> ModuleType:
    """Imports a module, the working directory first on the path.

    Raises:
        ThymeDefinitionError: the import fails, with the line at fault.
    """
    _import_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except ThymeError:
        raise
    except SyntaxError as error:
        place = Location(error.filename or name, error.lineno or 1)
        raise ThymeDefinitionError(f"cannot import {name}: {error.msg}", location=place) from error
    except Exception as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        hint = f"install {missing.partition('.')[0]} in {sys.prefix}" if missing and missing != name else None
        raise ThymeDefinitionError(
            f"cannot import {name}: {type(error).__name__}: {error}", hint=hint, location=_place(error)
        ) from error


class _FromSource(SourceFileLoader):
    """Compiles the source it finds. Bytecode kept from an earlier import is taken as current if the file has the length
    and the second it had then: an edit right after a commit would commit the old definitions again."""

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(f"no bytecode is kept of {path}")


def _import_from(root: Path) -> None:
    """Puts a directory on the import path; what lies below it, an environment apart, is imported from source."""
    root = root.resolve()
    on_path = {Path(entry).resolve() for entry in sys.path}
    if root not in on_path:
        sys.path.insert(0, str(root))
    if root in _FROM_SOURCE:
        return
    _FROM_SOURCE.add(root)

    def finder(folder: str) -> FileFinder:
        found = Path(folder or ".").resolve()
        if not found.is_relative_to(root) or {"site-packages", "dist-packages"}.intersection(found.parts):
            raise ImportError(f"not below {root}", path=folder)
        return FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_FromSource, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    sys.path_importer_cache.clear()


def _place(error: BaseException) -> Location | None:
    found = error_location(error)
    return None if found is None or "importlib" in found.file else found


def _refuse_nothing(where: str) -> None:
    registered = registry.current()
    if not registered.datasets and not registered.featuresets:
        raise ThymeDefinitionError(f"{where} defines nothing", hint="decorate classes with @dataset and @featureset")
