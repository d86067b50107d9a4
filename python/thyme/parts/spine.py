"""A spine cut into parts, and what tells whether it is the spine of the last time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from thyme.layers import layers


class SpineHash:
    """Of names, types and values of the rows; not of the batches they come in."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._fields = [(field.name, str(field.type)) for field in schema]
        self._digests: list[dict[str, Any]] = [{} for _ in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts rows in."""
        if not batch.num_rows:
            return
        self.rows += batch.num_rows
        for digests, column in zip(self._digests, batch.columns, strict=True):
            for name, data in layers(column):
                digests.setdefault(name, hashlib.sha256()).update(data)

    def hexdigest(self) -> str:
        """Of all rows so far."""
        whole = hashlib.sha256(repr((self.rows, self._fields)).encode("utf-8"))
        for digests in self._digests:
            for name, digest in sorted(digests.items()):
                whole.update(name.encode("utf-8") + digest.digest())
        return whole.hexdigest()


class Cut:
    """The batches of a spine, part by part. A part is taken to its end before the next one."""

    def __init__(self, reader: pa.RecordBatchReader) -> None:
        self.schema = reader.schema
        self._batches = iter(reader)
        self._left: pa.RecordBatch | None = None

    def has_more(self) -> bool:
        """Whether rows are left."""
        while self._left is None or not self._left.num_rows:
            self._left = next(self._batches, None)
            if self._left is None:
                return False
        return True

    def part(self, most: int) -> tuple[pa.RecordBatchReader, SpineHash]:
        """The next rows, and what is counted of them as they are taken."""
        found = SpineHash(self.schema)
        return pa.RecordBatchReader.from_batches(self.schema, self._take(most, found)), found

    def skip(self, most: int) -> SpineHash:
        """Passes over the next rows."""
        found = SpineHash(self.schema)
        for _ in self._take(most, found):
            pass
        return found

    def _take(self, most: int, found: SpineHash) -> Iterator[pa.RecordBatch]:
        while found.rows < most and self.has_more():
            batch = self._left
            piece = batch.slice(0, most - found.rows)
            self._left = batch.slice(piece.num_rows)
            found.add(piece)
            yield piece
