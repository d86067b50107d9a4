"""Writes `thyme/_proto/thyme_v1.binpb`, the compiled form of `proto/`, with grpcio-tools.

A compiled descriptor, not generated code: generated code is tied to the version of protobuf that made it.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

PYTHON = Path(__file__).resolve().parents[1]
OUTPUT = PYTHON / "thyme" / "_proto" / "thyme_v1.binpb"


def compiled() -> bytes:
    """The FileDescriptorSet of everything the client speaks, imports included."""
    from grpc_tools import protoc

    proto = PYTHON.parent / "proto"
    files = sorted(str(path.relative_to(proto)) for path in proto.glob("thyme/v1/*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "set.binpb"
        arguments = [
            "protoc",
            f"-I{proto}",
            f"-I{PYTHON / 'tools'}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            "--include_imports",
            f"--descriptor_set_out={output}",
            *files,
            "google/rpc/errors.proto",
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed")
        return output.read_bytes()


if __name__ == "__main__":
    OUTPUT.write_bytes(compiled())
    print(f"wrote {OUTPUT}", file=sys.stderr)
