"""Messages of `thyme.v1`, made at run time from the compiled form of `proto/` (see `tools/generate_proto.py`).

They live in a descriptor pool of their own, so that they never meet another copy of the same files.
`_proto.GetFeaturesRequest` is a message class, `_proto.VALUE_STATUS_OK` a number.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "thyme.v1"


@functools.cache
def _files() -> list[Any]:
    """Descriptors of all files, each after those it imports."""
    content = resources.files(__name__).joinpath("thyme_v1.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    found = []
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.AddSerializedFile(file.SerializeToString())
        found.append(pool.FindFileByName(file.name))
    return found


@functools.cache
def message(full_name: str) -> Any:
    """A message class by full name, such as `google.rpc.Status`."""
    for file in _files():
        for descriptor in file.message_types_by_name.values():
            if descriptor.full_name == full_name:
                return message_factory.GetMessageClass(descriptor)
            for nested in descriptor.nested_types:
                if nested.full_name == full_name:
                    return message_factory.GetMessageClass(nested)
    raise KeyError(full_name)


@functools.cache
def _numbers() -> dict[str, int]:
    return {
        value.name: value.number
        for file in _files()
        for enum in file.enum_types_by_name.values()
        for value in enum.values
    }


@functools.cache
def methods() -> dict[str, tuple[str, Any, Any]]:
    """`GetFeatures` -> (`/thyme.v1.FeatureService/GetFeatures`, request class, response class)."""
    return {
        method.name: (
            f"/{service.full_name}/{method.name}",
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
        )
        for file in _files()
        for service in file.services_by_name.values()
        for method in service.methods
    }


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    found = _numbers().get(name)
    if found is None:
        try:
            found = message(f"{PACKAGE}.{name}")
        except KeyError:
            raise AttributeError(f"no message or enum value '{name}'") from None
    globals()[name] = found  # the next access finds it at once
    return found
