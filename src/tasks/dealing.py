"""Dealing: groups of rows into folds of about the same size and the same share of each class."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.models.base import Fold


def are_distinct(groups: npt.NDArray[np.uint64]) -> bool:
    """Whether no two rows belong together.

    Parameters
    ----------
    groups : ndarray, shape (n_rows,)
        Equal for rows that belong together.

    Returns
    -------
    bool
    """
    return len(np.unique(groups)) == len(groups)


def grouped_folds(
    strata: Vector, groups: npt.NDArray[np.uint64], splits: int, repeats: int, seed: int
) -> Iterator[Fold]:
    """Folds of repeated cross-validation in which the rows of a group stay together.

    The groups of each stratum are dealt out like cards, the large ones first. scikit-learn's `StratifiedGroupKFold`
    weighs each group in Python, which takes minutes for hundreds of thousands.

    Parameters
    ----------
    strata : ndarray, shape (n_rows,)
        Such as the class of each row. A group counts for the rarest of its rows.
    groups : ndarray, shape (n_rows,)
        Equal for rows that belong together.
    splits, repeats : int
        Folds of one repeat, and how often groups are dealt out.
    seed : int
        Of the dealing.

    Yields
    ------
    (ndarray, ndarray)
        Row numbers to fit on and to judge by.
    """
    _, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rarity = _rarity(strata)
    stratum = np.full(len(sizes), len(strata))
    np.minimum.at(stratum, members, rarity)
    generator = np.random.default_rng(seed)
    for _ in range(repeats):
        order = np.lexsort((generator.random(len(sizes)), -sizes, stratum))
        dealt = np.empty(len(sizes), dtype=np.intp)
        dealt[order] = np.arange(len(sizes)) % splits
        fold = dealt[members]
        for number in range(splits):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _rarity(strata: Vector) -> npt.NDArray[np.intp]:
    """The rank of each row's stratum, the rarest first."""
    _, places, counts = np.unique(strata, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.intp] = np.argsort(np.argsort(counts, kind="stable"))
    return ranks[places]
