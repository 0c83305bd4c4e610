"""Tables of any size for `make scale`: random rows that the credit declaration allows."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tabserve.columns.features import Category, Feature, Number
from tabserve.declaration.discovery import get_use_case
from tabserve.tables.workbook_writer import xlsx_pieces

if TYPE_CHECKING:
    import pyarrow as pa

USE_CASE = get_use_case("credit")
BLOCK = 65_536  # rows that are made at a time; block n is the same whatever the size of the table
WIDEST = 10_000  # numbers are drawn from a range no wider than that, as most people's are


def write(path: Path, rows: int) -> None:
    """Write a table with the declared columns and the target.

    Parameters
    ----------
    path : Path
        A name that ends in .csv, .parquet or .xlsx.
    rows : int
    """
    if path.suffix == ".xlsx":
        table = next(_tables(rows, rows))
        columns = {name: table[name].to_pylist() for name in table.column_names}
        path.write_bytes(b"".join(xlsx_pieces(columns)))
        return
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    kind = parquet.ParquetWriter if path.suffix == ".parquet" else csv.CSVWriter
    tables = _tables(rows, BLOCK)
    first = next(tables)
    with kind(str(path), first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _tables(rows: int, block: int) -> Iterator["pa.Table"]:
    for place, start in enumerate(range(0, rows, block)):
        yield _table(np.random.default_rng([42, place]), min(block, rows - start))


def _table(generator: np.random.Generator, rows: int) -> "pa.Table":
    import pyarrow as pa

    raw = {feature.name: _drawn(feature, generator, rows) for feature in USE_CASE.features}
    score = sum(_standardized(raw[feature.name]) for feature in USE_CASE.features[:6])
    score = score + _standardized(raw["age"]) * _standardized(raw["amount"])
    defaulted = score + 2 * generator.normal(size=rows) > 1
    columns = {feature.name: _cells(feature, raw[feature.name]) for feature in USE_CASE.features}
    return pa.table({**columns, USE_CASE.target.feature.name: pa.array(np.where(defaulted, 2, 1))})


def _drawn(feature: Feature, generator: np.random.Generator, rows: int) -> "np.ndarray":
    if isinstance(feature, Category):
        return generator.integers(0, len(feature.values), rows)
    assert isinstance(feature, Number)
    return generator.integers(int(feature.low), int(min(feature.high, feature.low + WIDEST)) + 1, rows)


def _cells(feature: Feature, raw: "np.ndarray") -> "pa.Array":
    import pyarrow as pa

    if not isinstance(feature, Category):
        return pa.array(raw)
    return pa.DictionaryArray.from_arrays(pa.array(raw, pa.int32()), pa.array(feature.values)).cast(pa.string())


def _standardized(values: "np.ndarray") -> "np.ndarray":
    return (values - values.mean()) / (values.std() or 1)
