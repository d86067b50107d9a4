"""Rows on a grid: what a Parquet file is made of does not depend on the batches in which rows come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from thyme.layers import logical_size

BLOCK_ROWS = 8_192
ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 64 << 20


class Blocks:
    """Batches of one schema as blocks of exactly `BLOCK_ROWS` rows; the last has fewer. Dictionaries are undone: which
    values are in one, and in which order, depends on the batch."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = pa.schema([decoded(field) for field in schema], schema.metadata)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The blocks that are complete with it."""
        columns = [
            column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column for column in batch.columns
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        while self._rows + batch.num_rows >= BLOCK_ROWS:
            missing = BLOCK_ROWS - self._rows
            self._waiting.append(batch.slice(0, missing))
            batch = batch.slice(missing)
            yield self._block()
        if batch.num_rows:
            self._waiting.append(batch)
            self._rows += batch.num_rows

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The last block, if rows are left."""
        if self._waiting:
            yield self._block()

    def _block(self) -> pa.RecordBatch:
        pieces, self._waiting, self._rows = self._waiting, [], 0
        columns = [pa.concat_arrays([piece.column(number) for piece in pieces]) for number in range(len(self.schema))]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


class RowGroups:
    """Blocks, or pieces of them, gathered into the row groups of a Parquet file: small ones make a file slow to read.
    `sink` opens the file, which is done with the first row group. `schema`: with the dictionaries of the batches."""

    def __init__(self, sink: Callable[[], Any], schema: pa.Schema) -> None:
        self.size = 0
        self.rows = 0
        self._sink = sink
        self._schema = pa.schema([_encoded(field) for field in schema], schema.metadata)
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._writer: Any = None

    def add(self, block: pa.RecordBatch) -> None:
        """Takes rows, and writes those that are enough for a row group."""
        self._waiting.append(block)
        self._waiting_rows += block.num_rows
        self.size += sum(logical_size(column) for column in block.columns)
        if self._waiting_rows >= ROW_GROUP_ROWS or self.size >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that wait as a row group."""
        if self._waiting:
            names = self._schema.names
            columns = [
                _column([block.column(number) for block in self._waiting], self._schema.field(number).type)
                for number in range(len(names))
            ]
            table = pa.Table.from_arrays(columns, schema=self._schema)
            self._opened().write_table(table, row_group_size=self._waiting_rows)
        self.rows += self._waiting_rows
        self._waiting, self._waiting_rows, self.size = [], 0, 0

    def close(self) -> None:
        """Writes what is left, and the end of the file."""
        self.flush()
        self._opened().close()

    def _opened(self) -> Any:
        if self._writer is None:
            import pyarrow.parquet as pq

            self._writer = pq.ParquetWriter(self._sink(), self._schema)
        return self._writer


def decoded(field: pa.Field) -> pa.Field:
    """Of the values that a dictionary holds."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _encoded(field: pa.Field) -> pa.Field:
    """A row group may have more values than the dictionary of a batch, so its indices are of the usual width. Values
    stand in the order in which they come, so the dictionary is not an ordered one."""
    if not pa.types.is_dictionary(field.type):
        return field
    return field.with_type(pa.dictionary(pa.int32(), field.type.value_type))


def _column(pieces: list[pa.Array], wanted: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(wanted):
        return pa.chunked_array(pieces, wanted)
    return pa.chunked_array([pa.concat_arrays(pieces).dictionary_encode()], wanted)
