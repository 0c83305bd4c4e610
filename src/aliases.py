"""Names of types that many modules share."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Matrix: TypeAlias = npt.NDArray[np.float64]
Vector: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]  # a row or a cell is meant, or is not
Places: TypeAlias = npt.NDArray[np.int64]  # positions of rows
Weights: TypeAlias = Vector | None  # how much each row counts; None: all the same
Predictions: TypeAlias = npt.NDArray[
    np.float64
]  # of a model: (n_rows,) or, of more classes than two, (n_rows, n_classes)
Metric: TypeAlias = Callable[[Vector, Predictions], float]  # of targets and predictions; higher is better
Record: TypeAlias = Mapping[str, Any]
Records: TypeAlias = "Sequence[Record] | pd.DataFrame"
