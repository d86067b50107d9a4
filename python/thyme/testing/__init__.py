"""Tests of definitions: the real engine in memory (`MockContext`), and the pytest fixture `thyme_mock`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thyme.testing.mock import MockAnswer, MockContext

__all__ = ["MockAnswer", "MockContext"]


def __getattr__(name: str) -> Any:
    """Imported when first used: pytest loads the plugin in every run."""
    if name in __all__:
        from thyme.testing import mock

        return getattr(mock, name)
    raise AttributeError(f"module 'thyme.testing' has no attribute '{name}'")
