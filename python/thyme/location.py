"""Where in the user's source something stands."""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import sys
import types
from pathlib import Path

from thyme.errors import Location

_PACKAGE = str(Path(__file__).resolve().parent) + os.sep


def is_ours(file: str) -> bool:
    """Whether `file` belongs to this package."""
    return os.path.abspath(file).startswith(_PACKAGE)


def display_path(file: str) -> str:
    """Relative to the working directory where that is shorter to read, else as it is."""
    try:
        relative = os.path.relpath(file)
    except ValueError:
        return file
    return file if relative.startswith("..") else relative


def caller_frame() -> types.FrameType | None:
    """The nearest frame outside this package."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def caller_location() -> Location | None:
    """The line of user code that is running now."""
    frame = caller_frame()
    return None if frame is None else Location(frame.f_code.co_filename, frame.f_lineno)


def function_location(function: types.FunctionType) -> Location:
    """Where a function begins, its decorators included."""
    return Location(function.__code__.co_filename, function.__code__.co_firstlineno)


def error_location(error: BaseException) -> Location | None:
    """The innermost line of user code that an exception passed through."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        if not is_ours(trace.tb_frame.f_code.co_filename):
            found = Location(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def class_member_location(cls: type, member: str, fallback: Location | None) -> Location | None:
    """The line of `member` in the body of `cls`, read from its source; `fallback` when the source cannot be had."""
    try:
        file = inspect.getsourcefile(cls) or inspect.getfile(cls)
        tree = ast.parse("".join(linecache.getlines(file)))
    except (OSError, TypeError, SyntaxError):
        return fallback
    candidates = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    if fallback is not None:
        candidates.sort(key=lambda node: abs(node.lineno - fallback.line))
    for node in candidates[:1]:
        for statement in node.body:
            targets: list[ast.expr] = []
            if isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            elif isinstance(statement, ast.Assign):
                targets = statement.targets
            if any(isinstance(target, ast.Name) and target.id == member for target in targets):
                return Location(file, statement.lineno)
    return fallback
