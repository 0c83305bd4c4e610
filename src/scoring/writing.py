"""Writing: tables that come one after the other as the bytes of a file, in constant memory."""

import base64
import codecs
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tabserve.errors import ScoringError
from tabserve.tables.csv_lines import joined_lines
from tabserve.tables.pieces import Pieces
from tabserve.tables.writer import WITHOUT_ACCENT, csv_pieces, may_be_formula, written_like

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS = 1_048_575  # of a workbook, below the header
_BY_ENDING = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".arrows": "arrows",
}
UNWRITTEN = (".xlsm", ".xlsb", ".xls", ".ods")  # kinds of workbooks that are read only: their scores are XLSX


def format_of(name: str) -> str | None:
    """How a file of this name is written; None for a name that does not end as those of tables do."""
    return _BY_ENDING.get(f".{name.casefold().rpartition('.')[2]}")


def written_as(name: str, read_as: Mapping[str, str]) -> dict[str, str]:
    """How a file is written: as its name ends; for CSV, in the dialect of the one that was read.

    Parameters
    ----------
    name : str
        Of the file to write.
    read_as : mapping
        How the table was read.

    Returns
    -------
    dict of str
        `format` and, for CSV, the dialect.
    """
    kind = format_of(name) or "csv"
    if kind == "csv" and read_as.get("format") == "csv":
        return dict(read_as)
    return {"format": kind, **({"separator": "\t"} if name.casefold().endswith(".tsv") else {})}


def pieces(schema: "pa.Schema", tables: Iterator["pa.Table"], written: Mapping[str, str]) -> Iterator[bytes]:
    """Tables as the bytes of one file.

    Parameters
    ----------
    schema : pyarrow.Schema
        That of each table; in one for Parquet, texts may be dictionaries.
    tables : iterator of pyarrow.Table
    written : mapping
        From `written_as`.

    Yields
    ------
    bytes

    Raises
    ------
    ScoringError
        For more rows than a workbook holds.
    """
    kind = written["format"]
    if kind == "csv":
        return _csv(schema, tables, written)
    if kind == "parquet":
        return _parquet(schema, tables)
    if kind in ("feather", "arrows"):
        return _arrow(schema, tables, kind)
    return written_like(written, _row_by_row(schema, _few_enough(tables) if kind == "xlsx" else tables))


def _parquet(schema: "pa.Schema", tables: Iterator["pa.Table"]) -> Iterator[bytes]:
    """Parquet that declares the schema, although texts may come, and are written faster, as dictionaries."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    first = next(tables, schema.empty_table())
    sink = Pieces()
    few = [field.name for field in schema if not pa.types.is_floating(field.type)]  # may be worth a dictionary
    with ParquetWriter(sink, first.schema, store_schema=False, use_dictionary=few) as writer:
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(schema.serialize()).decode()})
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=max(len(table), 1))
            yield sink.taken()
    yield sink.taken()


def _arrow(schema: "pa.Schema", tables: Iterable["pa.Table"], kind: str) -> Iterator[bytes]:
    """Feather, or an Arrow IPC stream."""
    from pyarrow import ipc

    sink, begin = Pieces(), ipc.new_file if kind == "feather" else ipc.new_stream
    with begin(sink, schema, options=ipc.IpcWriteOptions(compression="lz4")) as writer:
        for table in tables:
            writer.write_table(table)
            yield sink.taken()
    yield sink.taken()


def _few_enough(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    rows = 0
    for table in tables:
        rows += len(table)
        if rows > MOST_ROWS:
            raise ScoringError(f"A workbook holds at most {MOST_ROWS:,} rows: write CSV or Parquet instead.")
        yield table


def _row_by_row(schema: "pa.Schema", tables: Iterator["pa.Table"]) -> dict[str, Iterator[Any]]:
    """The columns as iterators of values. Whoever takes them row by row keeps only one table in memory."""

    def values(place: int, tables: Iterator["pa.Table"]) -> Iterator[Any]:
        for table in tables:
            yield from table.column(place).to_pylist()

    copies = itertools.tee(tables, len(schema))
    return {name: values(place, copy) for place, (name, copy) in enumerate(zip(schema.names, copies, strict=True))}


def _csv(schema: "pa.Schema", tables: Iterable["pa.Table"], written: Mapping[str, str]) -> Iterator[bytes]:
    """CSV as `csv_pieces` writes it, without an object for each cell."""
    encoding = written.get("encoding", "utf-8")
    encode = codecs.getincrementalencoder(encoding)(WITHOUT_ACCENT).encode
    dialect = {key: value for key, value in written.items() if key != "encoding"}
    yield encode(b"".join(csv_pieces(dict.fromkeys(schema.names, ()), dialect)).decode())
    for table in tables:
        content = _lines(table, written.get("separator", ","), written.get("decimal", "."))
        yield content if encoding == "utf-8" else encode(content.decode())


def _lines(table: "pa.Table", separator: str, decimal: str) -> bytes:
    """The rows of a table, which has any, as lines of CSV in UTF-8."""
    return joined_lines([_texts(column.combine_chunks(), decimal) for column in table.columns], separator)


def _texts(array: "pa.Array", decimal: str) -> "pa.Array":
    """The cells as texts that no spreadsheet takes for formulas."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return _texts(array.dictionary, decimal).take(array.indices)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _harmless(array.cast(pa.string()))
    if types.is_floating(kind):
        array = pc.if_else(pc.is_nan(array), None, array)
    texts = array.cast(pa.string())
    if types.is_timestamp(kind):
        texts = pc.replace_substring_regex(
            pc.replace_substring(texts, " ", "T", max_replacements=1), r"\.0+(Z?)$", r"\1"
        )
    if decimal == "," and (types.is_floating(kind) or types.is_decimal(kind)):
        texts = pc.replace_substring(texts, ".", ",")
    return texts


def _harmless(texts: "pa.Array") -> "pa.Array":
    """Texts with an apostrophe before those that a spreadsheet would take for formulas."""
    import pyarrow as pa

    if not _first_bytes(texts).isdisjoint(_SUSPECT):
        distinct = texts.dictionary_encode()
        safe = [f"'{text}" if text and may_be_formula(text) else text for text in distinct.dictionary.to_pylist()]
        texts = pa.array(safe, pa.string()).take(distinct.indices)
    return texts


# what a text begins with, in UTF-8, that may be a formula: a sign, a blank before it, or a full-width character
_SUSPECT = frozenset(b"=+-@\t\r\n \xc2\xe3\xef")


def _first_bytes(texts: "pa.Array") -> set[int]:
    """The first bytes of all texts."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return set()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    begins = ends[:-1][ends[1:] > ends[:-1]]
    return set(np.flatnonzero(np.bincount(np.frombuffer(data, np.uint8)[begins], minlength=1)).tolist())
