"""The hold-out: which rows are kept from training.

A row's side follows from what its features hold and from the seed, and from nothing else: not from its place, its
outcome or the other rows. So it stays where it is while the table grows, its duplicates stand on the same side, and a
model that is trained again with more rows has never seen a row that an earlier one was judged by, nor the other way
round.
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


def held_out(table: "pd.DataFrame", features: Iterable[Feature], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each row belongs to the hold-out.

    Parameters
    ----------
    table : DataFrame
        n_rows checked rows. A column that is not there counts as one in which all is missing.
    features : iterable of Feature
        What the rows are told apart by, in any order.
    share : float
        The hold-out's share of many different rows, between 0 and 1.
    seed : int
        Another one deals the rows out otherwise.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
    """
    total = np.full(len(table), _bits(f"{seed}"))
    for feature in features:
        if feature.name in table:
            total += _column_bits(table[feature.name], feature, seed)
    held: npt.NDArray[np.bool_] = _mix(total) < np.uint64(share * 2**64)
    return held


def _column_bits(column: "pd.Series[Any]", feature: Feature, seed: int) -> Bits:
    """64 bits for each value of a column; none are set for one that is missing."""
    places, values = column.factorize()  # the place of what is missing is -1
    if isinstance(feature, Category):
        bits = np.array([_bits(value) for value in values], dtype=np.uint64)
    else:
        # as the model sees them, but with one zero: 1 and 1.0 are the same number, and -0.0 and 0.0
        bits = (np.array([*map(feature.encoder(), values.tolist())], dtype=np.float64) + 0.0).view(np.uint64)
    hashed: Bits = np.append(_mix(bits + _bits(f"{seed} {feature.name}")), np.uint64(0))[places]
    return hashed


def _bits(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(bits: Bits) -> Bits:
    """Each input bit moves half of the output's: the finaliser of MurmurHash3 (Appleby, public domain)."""
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xFF51AFD7ED558CCD)
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xC4CEB9FE1A85EC53)
    return bits ^ (bits >> np.uint64(33))
