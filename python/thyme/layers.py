"""Arrow values as what they are, whatever buffers hold them: offsets, slices, bitmaps that need not be there and what
lies below nulls say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_OFFSETS = {32: "i", 64: "q"}


def logical_size(array: pa.Array) -> int:
    """Bytes of the values: fixed widths, lengths, what is in texts and lists."""
    array = _plain(array)
    kind, rows = array.type, len(array)
    if _is_binary(kind):
        return 4 * rows + (pc.sum(pc.binary_length(array)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(logical_size(child) for child in array.flatten())
    if pa.types.is_nested(kind):
        return 4 * rows + logical_size(array.flatten())
    return 0 if pa.types.is_null(kind) else (rows * kind.bit_width + 7) // 8


def layers(array: pa.Array, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values as bytes in layers, the same names for all arrays of a type. The layers of two arrays, one behind the
    other, are those of both arrays in one, and other values have other layers."""
    array = _plain(array)
    yield f"{name}?", _bytes(array.is_valid())
    kind = array.type
    if pa.types.is_null(kind):
        return
    array = array.drop_null()
    if pa.types.is_struct(kind):
        for number, child in enumerate(array.flatten()):
            yield from layers(child, f"{name}.{number}")
    elif _is_binary(kind):
        yield f"{name}#", _bytes(pc.binary_length(array).cast(pa.int64()))
        yield f"{name}=", _texts(array)
    elif pa.types.is_nested(kind):
        if not pa.types.is_fixed_size_list(kind):
            yield f"{name}#", _bytes(pc.list_value_length(array).cast(pa.int64()))
        yield from layers(array.flatten(), f"{name}[]")
    else:
        yield f"{name}=", _bytes(array)


def _plain(array: pa.Array) -> pa.Array:
    """Without what a type only adds to how values are held."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(array.storage)
    if pa.types.is_dictionary(kind):
        return _plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return _plain(pc.run_end_decode(array))
    if pa.types.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)])
        return array.cast(pa.list_(entry))
    for is_other, wanted in _OTHERS:
        if is_other(kind):
            return array.cast(wanted)
    return array


_OTHERS = ((pa.types.is_string_view, pa.large_string()), (pa.types.is_binary_view, pa.large_binary()))


def _is_binary(kind: pa.DataType) -> bool:
    found = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_kind(kind) for is_kind in found)


def _bytes(array: pa.Array) -> memoryview:
    """Of a fixed width; a bool as a byte, so that they line up."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    held = array.buffers()[1]
    if held is None or not len(array):
        return memoryview(b"")
    return memoryview(held).cast("B")[array.offset * width : (array.offset + len(array)) * width]


def _texts(array: pa.Array) -> memoryview:
    _, offsets, held = array.buffers()
    if held is None or not len(array):
        return memoryview(b"")
    is_large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    places = memoryview(offsets).cast("B").cast(_OFFSETS[64 if is_large else 32])
    return memoryview(held).cast("B")[places[array.offset] : places[array.offset + len(array)]]
