"""Parquet columns of plain types as arrays; anything else is refused before it is read.

Shapes: N rows, D columns of a list.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whale.common.boundary import reading
from whale.common.errors import BadDataError
from whale.common.limits import READING_BYTES, TABLE_BYTES, TABLE_FILE_BYTES, TABLE_ROWS

BATCH_ROWS = 4096  # so that what a page unpacks to is seen before all of it lies in memory


def read_columns(
    path: Path, names: Collection[str] | None = None, nullable: Collection[str] = ()
) -> dict[str, np.ndarray | list[bytes]]:
    """Column name -> array (N, ...) or N byte strings (text, encoded images); columns of other types are left out.

    names: only these, as far as they exist. nullable: columns of numbers whose empty cells are NaN.
    Raises BadDataError for a file that is not whole.
    """
    if path.stat().st_size > TABLE_FILE_BYTES:
        raise BadDataError("file too large", file=path, found=path.stat().st_size, expected=f"<= {TABLE_FILE_BYTES}")
    with reading(path, "not a readable parquet file", memory=READING_BYTES), open(path, "rb") as stream:
        file = pq.ParquetFile(stream)
        rows = file.metadata.num_rows
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        if rows > TABLE_ROWS or size > TABLE_BYTES:
            expected = f"<= {TABLE_ROWS} rows, {TABLE_BYTES} bytes"
            raise BadDataError("too large when read", file=path, found=f"{rows} rows, {size} bytes", expected=expected)
        wanted = [field.name for field in file.schema_arrow if is_plain(field.type)]
        wanted = [name for name in wanted if names is None or name in names]
        table = _read(file, wanted, path)
        return {
            name: _column(table.column(name).combine_chunks(), name, path, name in nullable)
            for name in table.column_names
        }


def _read(file: pq.ParquetFile, names: list[str], path: Path) -> pa.Table:
    """Sizes in the footer are the file's own claims: they are compared with what comes."""
    batches, size, rows = [], 0, 0
    for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
        size, rows = size + batch.nbytes, rows + batch.num_rows
        if size > TABLE_BYTES or rows > TABLE_ROWS:
            raise BadDataError("too large when read", file=path, found=f"{rows} rows, {size} bytes and more",
                               expected=f"<= {TABLE_ROWS} rows, {TABLE_BYTES} bytes")  # fmt: skip
        batches.append(batch)
    schema = pa.schema([file.schema_arrow.field(name) for name in names])
    return pa.Table.from_batches(
        [batch.select(names) for batch in batches], batches[0].select(names).schema if batches else schema
    )


def column_names(path: Path) -> list[str]:
    """Names of the columns that can be read."""
    with reading(path, "not a readable parquet file", memory=READING_BYTES), open(path, "rb") as stream:
        return [field.name for field in pq.read_schema(stream) if is_plain(field.type)]


def other_columns(path: Path) -> list[str]:
    """Names of the columns that cannot be read."""
    with reading(path, "not a readable parquet file", memory=READING_BYTES):
        return sorted(set(pq.read_schema(path).names) - set(column_names(path)))


def is_plain(kind: pa.DataType) -> bool:
    """Numbers, text, lists of numbers of one depth, and images as {bytes, path}; no extension type."""
    if _is_list(kind):
        return _is_number(kind.value_type)
    return _is_number(kind) or _is_text(kind) or (pa.types.is_struct(kind) and _is_image(kind))


def content_sha256(columns: Mapping[str, np.ndarray | list[bytes]], extra: Collection[str] = ()) -> str:
    """Of the values, by sorted name; `extra`: digests of what belongs to them."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        values = columns[name]
        digest.update(name.encode())
        digest.update(b"".join(values) if isinstance(values, list) else np.ascontiguousarray(values).tobytes())
    for each in extra:
        digest.update(each.encode())
    return digest.hexdigest()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_image(kind: pa.DataType) -> bool:
    names = {kind.field(i).name for i in range(kind.num_fields)}
    return names == {"bytes", "path"} and pa.types.is_binary(kind.field("bytes").type)


def _column(array: pa.Array, name: str, path: Path, is_nullable: bool) -> np.ndarray | list[bytes]:
    if array.null_count and not (is_nullable and _is_number(array.type)):
        raise BadDataError("a column with empty cells", file=path, place=name, found=array.null_count, expected=0)
    if _is_list(array.type):
        values = array.flatten()
        width, rest = divmod(len(values), max(len(array), 1))
        lengths = (
            {width} if pa.types.is_fixed_size_list(array.type) else set(np.diff(array.offsets.to_numpy()).tolist())
        )
        if rest or values.null_count or len(lengths) > 1:
            raise BadDataError(
                "a column of lists of different lengths", file=path, place=name, found=sorted(lengths)[:5]
            )
        return values.to_numpy(zero_copy_only=False).reshape(len(array), width)
    if pa.types.is_struct(array.type):
        images = array.field("bytes")
        if images.null_count:
            what = "a column with images elsewhere"
            raise BadDataError(what, file=path, place=f"{name}.bytes", found=images.null_count, expected=0)
        return [bytes(value) for value in images.to_pylist()]
    if _is_text(array.type):
        return [value.encode() if isinstance(value, str) else value for value in array.to_pylist()]
    return array.to_numpy(zero_copy_only=False)
