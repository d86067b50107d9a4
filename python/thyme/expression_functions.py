"""Functions of several expressions."""

from __future__ import annotations

from thyme.expressions import Expr, call


def least(*values: object) -> Expr:
    """The least of the values; null if one of them is."""
    return call("least", *values)


def greatest(*values: object) -> Expr:
    """The greatest of the values; null if one of them is."""
    return call("greatest", *values)


def concat(*values: object) -> Expr:
    """Texts put together; null if one of them is."""
    return call("concat", *values)
