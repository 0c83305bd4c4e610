"""The writer of Parquet: answers for those who sent Parquet or Feather."""

import io
from collections.abc import Iterable, Mapping
from typing import Any


def parquet_bytes(columns: Mapping[str, Iterable[Any]]) -> bytes:
    """Columns as a Parquet file.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column, by its name. A column whose values are not all of one kind, because some are
        invalid, becomes one of texts.

    Returns
    -------
    bytes
    """
    import pyarrow  # large, and needed for few answers
    from pyarrow.parquet import write_table

    def array(values: list[Any]) -> Any:
        try:
            return pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
            return pyarrow.array([None if value is None else str(value) for value in values])

    content = io.BytesIO()
    write_table(pyarrow.table({name: array(list(values)) for name, values in columns.items()}), content)
    return content.getvalue()
