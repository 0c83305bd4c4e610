"""Frames: columns of a table as pandas columns, without a Python object for each cell.

Numbers are int64 where all are whole and none is missing, else float64; texts are categorical. What is of several kinds
is a column of objects.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tabserve.aliases import Places
from tabserve.columns.arrays import EXACT, dictionary_places, python_cells
from tabserve.tables.kept import CellColumn

if TYPE_CHECKING:
    import pyarrow as pa


def as_series(values: Sequence[Any]) -> "pd.Series[Any]":
    """The values of a column, as of `Table.target`, as a pandas column.

    Parameters
    ----------
    values : sequence of str, int, float, bool or None
        n_rows values.

    Returns
    -------
    Series, shape (n_rows,)
    """
    import pyarrow as pa

    if not isinstance(values, CellColumn):
        return pd.Series([*values])
    arrays = [*values.typed_arrays]
    kinds = {array.type for array in arrays if array.null_count < len(array)}
    if kinds and kinds <= {pa.int64(), pa.float64()}:
        return pd.Series(_numbers(arrays))
    if kinds and all(map(_is_text, kinds)):
        return pd.Series(_texts(arrays))
    return pd.Series([cell for array in arrays for cell in python_cells(array)])


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _numbers(arrays: "Sequence[pa.Array]") -> Any:
    """Numbers of one or of both types, or missing."""
    import pyarrow as pa

    if all(array.type == pa.int64() and not array.null_count for array in arrays):
        return np.concatenate([array.to_numpy() for array in arrays])
    floats = (array.to_numpy(zero_copy_only=False).astype(np.float64) for array in arrays)
    numbers = np.concatenate([*floats])
    are_whole = bool(np.all((numbers == np.rint(numbers)) & (np.abs(numbers) <= EXACT)))
    return numbers.astype(np.int64) if are_whole else numbers


def _texts(arrays: "Sequence[pa.Array]") -> pd.Categorical:
    """Texts, of which each distinct one is kept once, in the order in which they come."""
    import pyarrow as pa

    texts: dict[str, int] = {}
    codes = []
    for array in arrays:
        array = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        places = dictionary_places(array)
        distinct = [*array.dictionary.to_pylist(), None]
        code_of = np.full(len(distinct), -1, np.int32)
        for place in _in_order(places, len(distinct)):
            if (text := distinct[place]) is not None:
                code_of[place] = texts.setdefault(text, len(texts))
        codes.append(code_of[places].astype(np.min_scalar_type(-1 - len(texts))))
    return pd.Categorical.from_codes(np.concatenate(codes), categories=pd.Index([*texts], dtype="str"))


def _in_order(places: Places, size: int) -> list[int]:
    """The places below a size that occur, in the order in which each comes first."""
    first = np.full(size, len(places))
    first[places[::-1]] = np.arange(len(places))[::-1]  # of several that are written, the last one stays
    return [place for place in np.argsort(first, kind="stable").tolist() if first[place] < len(places)]
