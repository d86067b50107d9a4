"""Entries of aggregate results, for annotations: `favourites: list[TopKEntry[str]]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

Item = TypeVar("Item")

if TYPE_CHECKING:

    class TopKEntry(TypedDict, Generic[Item]):
        """One of the values that `TopK` lists, and how often it occurs."""

        value: Item
        count: int

else:
    # A generic TypedDict needs Python 3.11. An entry is a dict here as there.
    class TopKEntry(Generic[Item]):
        """One of the values that `TopK` lists, and how often it occurs: the dict `{"value": …, "count": …}`."""

        def __new__(cls, *, value, count):
            return {"value": value, "count": count}
