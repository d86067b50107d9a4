"""What the client must know of a dataset or featureset to ask about it: its keys and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thyme.errors import InvalidArgumentError, NotFoundError
from thyme.suggest import suggestion


@dataclass(frozen=True)
class Shape:
    """Name, keys in order, and the type of every field as users write it."""

    name: str
    keys: list[str]
    types: dict[str, str]

    def integers(self) -> list[str]:
        """Names of the fields of type int."""
        return [name for name, type_text in self.types.items() if type_text == "int"]


def of_class(reference: Any) -> Shape | None:
    """The shape of a decorated class; None for a name.

    Raises:
        InvalidArgumentError: neither a decorated class nor a name.
    """
    if isinstance(reference, str):
        return None
    if isinstance(reference, Shape):
        return reference
    from thyme.dataset import dataset_of
    from thyme.featureset import featureset_of

    definition = featureset_of(reference) or dataset_of(reference)
    if definition is None:
        raise InvalidArgumentError(
            f"expected a dataset, a featureset or a name, got {reference!r}",
            hint="is the class decorated with @dataset or @featureset?",
        )
    fields = definition.features if hasattr(definition, "features") else definition.fields
    return Shape(definition.name, definition.keys, {found.name: found.type.name for found in fields})


def of_featuresets(response: Any) -> list[Shape]:
    """From the server's list of featuresets."""
    return [
        Shape(info.name, list(info.keys), {found.name: found.type for found in info.features})
        for info in response.featuresets
    ]


def of_datasets(response: Any) -> list[Shape]:
    """From the server's list of datasets."""
    return [
        Shape(info.name, [f.name for f in info.fields if f.key], {f.name: f.type for f in info.fields})
        for info in response.datasets
    ]


def key_of(shape: Shape, key: Any) -> dict[str, Any]:
    """A key as name to value: a scalar for one key, a dict for several.

    Raises:
        InvalidArgumentError: a scalar where there are several keys.
    """
    if isinstance(key, Mapping):
        return dict(key)
    if len(shape.keys) == 1:
        return {shape.keys[0]: key}
    spelled = ", ".join(f'"{name}": ...' for name in shape.keys)
    raise InvalidArgumentError(
        f"{shape.name} has {len(shape.keys)} keys ({', '.join(shape.keys)}), got {key!r}",
        hint=f"give a dict: {{{spelled}}}",
        field="key",
    )


def find(name: str, kind: str, shapes: list[Shape]) -> Shape:
    """The shape of that name.

    Raises:
        NotFoundError: there is none; names the nearest.
    """
    for shape in shapes:
        if shape.name == name:
            return shape
    what = "dataset or featureset" if kind == "any" else kind
    raise NotFoundError(
        f"unknown {what} '{name}'",
        hint=suggestion(name, [shape.name for shape in shapes]),
        field="name" if kind == "any" else kind,
    )
