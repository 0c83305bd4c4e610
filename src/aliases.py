"""Names for the types that cross module borders."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Matrix: TypeAlias = npt.NDArray[np.float64]
Vector: TypeAlias = npt.NDArray[np.float64]
Metric: TypeAlias = Callable[[Vector, Vector], float]  # of targets and scores; higher is better
Record: TypeAlias = Mapping[str, Any]
Records: TypeAlias = "Sequence[Record] | pd.DataFrame"
