"""The hold-out: which rows are kept from training.

Only the values of its features and the seed decide on which side a row is: not its position, its outcome or the other
rows. So a row stays on its side while the table grows, and duplicates are on the same side. When a model is trained
again with more rows, it never sees a row that an earlier model was judged by, nor the other way round.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.columns.features import Category, Feature

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "features"  # what a manifest calls this way to split

Bits: TypeAlias = npt.NDArray[np.uint64]


def hashes(table: "pd.DataFrame", features: Iterable[Feature], seed: int) -> Bits:
    """A number for each row that is the same for rows with the same values.

    Parameters
    ----------
    table : DataFrame
        n_rows checked rows. A column that is not there counts as one without values.
    features : iterable of Feature
        The columns that distinguish rows, in any order.
    seed : int
        Another seed gives other numbers.

    Returns
    -------
    ndarray of uint64, shape (n_rows,)
    """
    total = np.full(len(table), _bits(f"{seed}"))
    for feature in features:
        if feature.name in table:
            total += _column_bits(table[feature.name], feature, seed)
    return _mix(total)


def held_out(hashed: Bits, share: float) -> npt.NDArray[np.bool_]:
    """Whether each row belongs to the hold-out.

    Parameters
    ----------
    hashed : ndarray of uint64, shape (n_rows,)
        From `hashes`.
    share : float
        The share of distinct rows in the hold-out, between 0 and 1; the exact number varies.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
    """
    held: npt.NDArray[np.bool_] = hashed < np.uint64(share * 2**64)
    return held


def _column_bits(column: "pd.Series[Any]", feature: Feature, seed: int) -> Bits:
    """64 bits for each value of a column; all are 0 for a missing value."""
    places, values = column.factorize()  # the place of a missing value is -1
    if isinstance(feature, Category):
        bits = np.array([_bits(value) for value in values], dtype=np.uint64)
    else:
        # the numbers that the model sees: 1 equals 1.0, and -0.0 becomes 0.0
        bits = (np.array([*map(feature.encoder(), values.tolist())], dtype=np.float64) + 0.0).view(np.uint64)
    hashed: Bits = np.append(_mix(bits + _bits(f"{seed} {feature.name}")), np.uint64(0))[places]
    return hashed


def _bits(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(bits: Bits) -> Bits:
    """Mix so that each input bit changes half of the output bits: MurmurHash3's finaliser (Appleby, public domain)."""
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xFF51AFD7ED558CCD)
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xC4CEB9FE1A85EC53)
    return bits ^ (bits >> np.uint64(33))
