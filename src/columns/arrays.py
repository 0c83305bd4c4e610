"""Cells as Arrow arrays: how columns of a table travel from files to the matrix, without an object for each cell.

A column whose cells are all of one kind is an array of that kind; one of several kinds, as spreadsheets have them, is a
dense union. Whatever Arrow has no kind for (half a character, a whole number of 100 digits, a time with an offset) is
kept as JSON in a binary array. pyarrow is imported when the first table comes: records need none of this.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Vector

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 2**53  # whole numbers up to it are exact as floats
_INT64 = range(-(2**63), 2**63)


@cache
def without_pandas() -> None:
    """Keep pyarrow from importing pandas with its first array, 54 MB in every worker that reads a table.

    Where pandas is asked for, as by `to_pandas`, pyarrow imports it all the same.
    """
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """Finds every module but pandas where the others find it."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError


def cell_array(cells: Sequence[Any]) -> "pa.Array":
    """Cells of a column as an array.

    Parameters
    ----------
    cells : sequence of str, int, float, bool, Decimal, date, datetime, time, timedelta or None
        As readers of files and databases give them.

    Returns
    -------
    pyarrow.Array
        With n_cells entries; None is null. `python_cells` gives back the same cells.
    """
    import pyarrow as pa

    kinds = {*map(type, cells)} - {type(None)}
    if len(kinds) < 2:
        return _of_kind(kinds.pop(), cells) if kinds else pa.nulls(len(cells), pa.string())
    places: dict[type, list[int]] = {kind: [] for kind in kinds}
    codes, offsets = [], []
    order = {kind: code for code, kind in enumerate(places)}
    empty = next(iter(places))
    for place, cell in enumerate(cells):
        kind = empty if cell is None else type(cell)
        codes.append(order[kind])
        offsets.append(len(places[kind]))
        places[kind].append(place)
    children = [_of_kind(kind, [cells[place] for place in of]) for kind, of in places.items()]
    return pa.UnionArray.from_dense(pa.array(codes, pa.int8()), pa.array(offsets, pa.int32()), children)


def _of_kind(kind: type, cells: Sequence[Any]) -> "pa.Array":
    """Cells of one kind, and empty ones."""
    import pyarrow as pa

    types = {
        str: pa.string(),
        float: pa.float64(),
        int: pa.int64(),
        bool: pa.bool_(),
        date: pa.date32(),
        datetime: pa.timestamp("us"),
    }
    if kind is int and not all(cell is None or cell in _INT64 for cell in cells):
        return _as_json(cells)
    if kind is datetime and any(cell is not None and cell.tzinfo for cell in cells):
        return _as_json(cells)
    if kind is Decimal:
        return _as_json(cells)
    if kind not in types:  # times of a day, spans of time
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
    try:
        return pa.array(cells, types[kind], from_pandas=False)
    except UnicodeEncodeError:
        return _as_json(cells)


def _as_json(cells: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    return pa.array([None if cell is None else json.dumps(cell, default=_odd).encode() for cell in cells], pa.binary())


def _odd(cell: Any) -> dict[str, str]:
    return {"decimal": str(cell)} if isinstance(cell, Decimal) else {"datetime": cell.isoformat()}


def python_cells(array: "pa.Array") -> list[Any]:
    """The cells of an array, as `Feature.from_cell` takes them.

    Parameters
    ----------
    array : pyarrow.Array
        From `cell_array`, or of any type that is not nested.

    Returns
    -------
    list of str, int, float, bool, Decimal, date, datetime or None
        NaN is None, as pandas writes it for a missing number; a float without decimals is an int, as in workbooks.
    """
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        distinct = python_cells(array.dictionary)
        return [None if code is None else distinct[code] for code in array.indices.to_pylist()]
    if pa.types.is_union(kind):
        children = [python_cells(array.field(code)) for code in range(kind.num_fields)]
        codes, offsets = union_places(array)
        return [children[code][place] for code, place in zip(codes.tolist(), offsets.tolist(), strict=True)]
    read = _reader(kind)
    cells = _python_values(array)
    return cells if read is None else [None if cell is None else read(cell) for cell in cells]


def distinct_cells(array: "pa.Array") -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The distinct cells of an array, so that each is read once however often it comes.

    Parameters
    ----------
    array : pyarrow.Array
        As for `python_cells`.

    Returns
    -------
    cells : list
        As `python_cells` gives them, in no certain order; some may be equal, or be in no row.
    places : ndarray of int, shape (n_cells,)
        Which of them each cell of the array is.
    """
    import pyarrow as pa

    if pa.types.is_union(array.type):
        return _distinct_of_union(array)
    if pa.types.is_dictionary(array.type) and len(array.dictionary) > len(array):
        array = without_views(array.dictionary).take(array.indices)  # most of the dictionary is not used
    try:
        array = array.dictionary_encode()
    except pa.ArrowNotImplementedError:
        return python_cells(array), np.arange(len(array))
    return [*python_cells(array.dictionary), None], dictionary_places(array)


def read_flat(array: "pa.Array", read: Callable[["pa.Array"], tuple[Vector, Mask]]) -> tuple[Vector, Mask]:
    """What a function reads in an array, once for each entry of a dictionary and child by child of a union.

    Parameters
    ----------
    array : pyarrow.Array
        n_cells raw cells of any type that is not nested.
    read : callable
        From an array that is not empty and no union, dictionary or array of views, to a number for each of its cells,
        and which cells it can read.

    Returns
    -------
    numbers : ndarray of float64, shape (n_cells,)
    is_read : ndarray of bool, shape (n_cells,)
    """
    import pyarrow as pa

    array = without_views(array)
    if pa.types.is_dictionary(array.type):
        numbers, is_read = read_flat(array.dictionary, read)
        places = dictionary_places(array)
        return np.append(numbers, 0.0)[places], np.append(is_read, False)[places]
    if len(array) and not pa.types.is_union(array.type):
        return read(array)
    numbers, is_read = np.zeros(len(array)), np.zeros(len(array), np.bool_)
    if len(array):
        codes, offsets = union_places(array)
        for code in range(array.type.num_fields):
            is_in_child = codes == code
            of_child, is_read_there = read_flat(array.field(code), read)
            numbers[is_in_child] = of_child[offsets[is_in_child]]
            is_read[is_in_child] = is_read_there[offsets[is_in_child]]
    return numbers, is_read


def dictionary_places(array: "pa.DictionaryArray") -> npt.NDArray[np.int64]:
    """Which entry of the dictionary each of n_cells cells is; an empty one is that after the last."""
    places = stored(array.indices).astype(np.int64)
    places[~given_in(array.indices)] = len(array.dictionary)
    return places


def stored(array: "pa.Array") -> npt.NDArray[Any]:
    """The numbers of an array as they lie in memory; anything where one is null."""
    _, numbers = array.buffers()
    if numbers is None:
        return np.zeros(len(array), array.type.to_pandas_dtype())
    return np.frombuffer(numbers, array.type.to_pandas_dtype())[array.offset : array.offset + len(array)]


def given_in(array: "pa.Array") -> Mask:
    """Which cells of an array are not empty."""
    if not array.null_count:
        return np.ones(len(array), np.bool_)
    is_given: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return is_given


def without_views(array: "pa.Array") -> "pa.Array":
    """An array; one of views of texts as an array of texts, with which Arrow can do everything."""
    import pyarrow as pa

    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array


def with_distinct_texts(array: "pa.Array") -> "pa.Array":
    """An array; one of texts as a dictionary of them."""
    import pyarrow as pa

    array = without_views(array)
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    return array.dictionary_encode() if is_text else array


def cells_at(array: "pa.Array", places: npt.NDArray[np.int64]) -> "pa.Array":
    """The cells at some places; not as a dictionary, which may hold many others."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        return without_views(array.dictionary).take(array.indices.take(pa.array(places)))
    return without_views(array).take(pa.array(places))


def _distinct_of_union(array: "pa.UnionArray") -> tuple[list[Any], npt.NDArray[np.int64]]:
    codes, offsets = union_places(array)
    cells: list[Any] = []
    places = np.empty(len(array), np.int64)
    for code in range(array.type.num_fields):
        of_child, places_in_child = distinct_cells(array.field(code))
        is_in_child = codes == code
        places[is_in_child] = len(cells) + places_in_child[offsets[is_in_child]]
        cells += of_child
    return cells, places


def take_cells(cells: Sequence[Any], places: npt.NDArray[np.int64]) -> "pa.Array":
    """Distinct cells, each put at all its places, as `cell_array` would give them.

    Parameters
    ----------
    cells : sequence
        As for `cell_array`.
    places : ndarray of int, shape (n_cells,)

    Returns
    -------
    pyarrow.Array
        With n_cells entries. Texts come as a dictionary.
    """
    import pyarrow as pa

    distinct = cell_array(cells)
    if pa.types.is_union(distinct.type):
        return cell_array([cells[place] for place in places.tolist()])
    if pa.types.is_string(distinct.type):
        return pa.DictionaryArray.from_arrays(places.astype(np.int32), distinct)
    return distinct.take(pa.array(places))


def union_places(array: "pa.UnionArray") -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """In which child of a dense union each of its n_cells is, and where; of a slice, pyarrow itself gives the first."""
    of_slice = slice(array.offset, array.offset + len(array))
    _, codes, offsets = array.buffers()[:3]
    return np.frombuffer(codes, np.int8)[of_slice], np.frombuffer(offsets, np.int32)[of_slice]


def _python_values(array: "pa.Array") -> list[Any]:
    """As Arrow gives them; a date or a time that Python cannot hold is a text, which says so."""
    import pyarrow as pa

    if pa.types.is_timestamp(array.type) and array.type.unit == "ns":
        microseconds = pa.array(stored(array.view(pa.int64())) // 1000, pa.int64(), mask=~given_in(array))
        array = microseconds.cast(pa.timestamp("us", array.type.tz))
    try:
        values: list[Any] = array.to_pylist()
        return values
    except OverflowError:
        return [_value_or_text(array[place : place + 1]) for place in range(len(array))]


def _value_or_text(array: "pa.Array") -> Any:
    """The value of an array's only cell."""
    try:
        return array[0].as_py()
    except OverflowError:
        return f"{array.type} {array.view('int64' if array.type.bit_width == 64 else 'int32')[0]}"


def _reader(kind: "pa.DataType") -> Callable[[Any], Any] | None:
    """What makes a cell of a value that Arrow gives; None where it is one."""
    import pyarrow as pa

    types = pa.types
    if types.is_binary(kind) or types.is_large_binary(kind):
        return _from_json
    if types.is_floating(kind):
        return _number
    return str if types.is_time(kind) or types.is_duration(kind) else None


def _number(value: float) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() and abs(value) <= EXACT else value


def _from_json(text: bytes) -> Any:
    cell = json.loads(text)
    if type(cell) is not dict:
        return cell
    return Decimal(cell["decimal"]) if "decimal" in cell else datetime.fromisoformat(cell["datetime"])
