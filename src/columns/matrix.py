"""What the columns of a matrix hold, so that transformers and models find the columns they are declared for."""

from collections.abc import Sequence
from dataclasses import dataclass

from tabserve.aliases import Matrix
from tabserve.columns.features import Category, Column


@dataclass(frozen=True)
class MatrixColumn:
    """One column of a matrix on its way from the encoder to the model.

    Parameters
    ----------
    origin : Column
        The declared column that it comes from.
    level : float, optional
        In a column of `OneHot`, the code that a 1 stands for.
    bucket : int, optional
        In a column of a text, the bucket whose words and letters it counts.
    scaled : bool
        Whether codes or values were scaled, which keeps their order.
    """

    origin: Column
    level: float | None = None
    bucket: int | None = None
    scaled: bool = False

    @property
    def name(self) -> str:
        """Name of the declared column."""
        return self.origin.name

    @property
    def is_nominal(self) -> bool:
        """Whether it holds the codes of a category without an order."""
        return not (self.scaled or self.is_level or self.origin.is_ordered) and isinstance(self.origin, Category)

    @property
    def is_level(self) -> bool:
        """Whether it holds 0 and 1, for one code of the declared column."""
        return self.level is not None

    @property
    def monotone(self) -> int:
        """The declared direction; 0 where the values are no longer in their order."""
        return 0 if self.is_level else self.origin.monotone


Columns = Sequence[MatrixColumn]


def check_described(X: Matrix, columns: Columns) -> None:
    """Raise ValueError unless each column of a matrix is described."""
    if len(columns) != X.shape[1]:
        raise ValueError(f"The matrix has {X.shape[1]} columns, but {len(columns)} are described.")
