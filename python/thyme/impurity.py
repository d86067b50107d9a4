"""A static look at extractors: a clock, randomness or the network would make a value depend on more than its inputs."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MODULES = {
    "time": "clock", "random": "randomness", "secrets": "randomness", "uuid": "randomness",
    "numpy.random": "randomness",
    "requests": "network", "urllib": "network", "urllib3": "network", "http": "network", "httpx": "network",
    "aiohttp": "network", "socket": "network", "ftplib": "network", "smtplib": "network", "boto3": "network",
    "grpc": "network", "subprocess": "other processes",
}  # fmt: skip
_CLOCKS = {"now", "utcnow", "today"}
_PURE = {"uuid.UUID", "uuid.uuid3", "uuid.uuid5", "urllib.parse", "time.strptime", "time.struct_time", "time.gmtime"}


def find_impurities(function: Callable[..., Any], is_local: Callable[[ModuleType | None], bool]) -> list[str]:
    """What `function`, and the local functions that it calls, does that a replay could not repeat.

    Returns texts such as `calls datetime.datetime.now (clock)`.
    """
    found: list[str] = []
    seen: set[int] = set()
    waiting: list[Any] = [inspect.unwrap(function)]
    while waiting:
        looked_at = waiting.pop()
        if id(looked_at) in seen:
            continue
        seen.add(id(looked_at))
        for name, value in _called(looked_at):
            reason = _reason(name, value)
            text = f"calls {name} ({reason})"
            if reason and text not in found:
                found.append(text)
            if inspect.isfunction(value) and is_local(inspect.getmodule(value)):
                waiting.append(value)
    return found


def _called(function: Any) -> list[tuple[str, Any]]:
    """Full names and objects of what a function calls, as far as its globals tell."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return []
    scope = dict(function.__globals__)
    for node in ast.walk(tree):  # imports inside the body
        if isinstance(node, ast.Import):
            for alias in node.names:
                scope[alias.asname or alias.name.split(".")[0]] = _Absent(
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                scope[alias.asname or alias.name] = _Absent(f"{node.module}.{alias.name}")
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    resolved = [_resolve(call, scope) for call in calls]
    return [entry for entry in resolved if entry is not None]


class _Absent:
    """A name that is imported inside the body: known by name only."""

    def __init__(self, name: str) -> None:
        self.name = name


def _resolve(node: ast.expr, scope: dict[str, Any]) -> tuple[str, Any] | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in scope:
        return None
    value = scope[node.id]
    name = _full_name(value) or node.id
    for part in parts:
        if isinstance(value, _Absent):
            name = f"{name}.{part}"
            continue
        owner, value = value, getattr(value, part, None)
        name = f"{_full_name(owner) or name}.{part}"
    return name, value


def _full_name(value: Any) -> str | None:
    if isinstance(value, _Absent):
        return value.name
    if isinstance(value, ModuleType):
        return value.__name__
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        return f"{module}.{qualname}"
    receiver = getattr(value, "__self__", None)  # bound methods such as random.random
    return f"{type(receiver).__module__}.{qualname}" if receiver is not None and qualname else None


def _reason(name: str, value: Any) -> str | None:
    names = {name, _full_name(value) or name}
    for full in names:
        if full.startswith(("datetime.", "pandas.", "polars.")) and full.rsplit(".", 1)[-1] in _CLOCKS:
            return "clock"
        if any(full == pure or full.startswith(f"{pure}.") for pure in _PURE):
            continue
        for module, reason in _MODULES.items():
            if full.startswith(f"{module}."):
                return reason
    return None
