"""What runs on this thread: a worker sets its context before it calls an extractor, `Dataset.lookup` asks for it.

A context has one method, `lookup(dataset_name, ts, key) -> dict | None`.
"""

from __future__ import annotations

import threading
from typing import Any

_local = threading.local()


def set_current(context: Any) -> None:
    """Sets this thread's context; None takes it away."""
    _local.context = context


def current() -> Any:
    """This thread's context, or None outside of an extractor."""
    return getattr(_local, "context", None)
