"""The hold-out: which rows are kept from training.

On which side a row is follows from the row and the seed alone, so it stays there while the table grows: by a hash of
its features or, where a group is declared, of its group. Its position, its outcome and the other rows do not matter,
and duplicates are on the same side. Where a time is declared, the newest rows are held out: then a row may move from
the hold-out to the training part as the table grows, but never back. When a model is trained again with more rows, the
earlier model was never fitted on a row that both are judged by.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.columns.features import Category, Feature, Number
from tabserve.declaration.use_case import UseCase
from tabserve.errors import Fault, InvalidTableError, UniformTimeError
from tabserve.registry.manifest import Split

if TYPE_CHECKING:
    import pandas as pd

FEATURES, GROUP, TIME = "features", "group", "time"  # what a manifest calls what decides

Bits: TypeAlias = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Sides:
    """On which side of the split each row is.

    Parameters
    ----------
    held_out : ndarray of bool, shape (n_rows,)
    groups : ndarray of uint64, shape (n_rows,)
        Equal for rows that belong together.
    times : ndarray, shape (n_rows,), optional
        Where time decides: when each row was, or the first row of its group where groups are declared.
    split : Split
        What decided.
    """

    held_out: npt.NDArray[np.bool_]
    groups: Bits
    times: Vector | None
    split: Split


def sides_of(use_case: UseCase, table: "pd.DataFrame", share: float, seed: int, not_before: Any = None) -> Sides:
    """Decide on which side of the split each row is.

    Parameters
    ----------
    use_case : UseCase
        Says what decides: its time, its group or else its features.
    table : DataFrame
        n_rows checked rows with all columns that may decide.
    share : float
        The share of rows in the hold-out, between 0 and 1; the exact number varies.
    seed : int
        Another seed splits the rows differently, unless time decides.
    not_before : object, optional
        Where time decides: no row before this one is held out, whatever the share.

    Returns
    -------
    Sides

    Raises
    ------
    InvalidTableError
        When a row has no time.
    UniformTimeError
        When all rows have the same time.
    """
    groups, deciding = _groups(use_case, table, seed)
    if not use_case.time:
        split = Split(GROUP if use_case.group else FEATURES, deciding)
        return Sides(held_out(groups, share), groups, None, split)
    feature = _column(use_case, use_case.time)
    times = _times(feature, table)
    if use_case.group:  # those who are seen for the first time are held out: a group has one time
        times = _earliest(times, groups)
    cut = _cut(feature, times, share)
    if not_before is not None:
        cut = max(cut, feature.encoder()(not_before))
    columns = {use_case.time: type(feature).__name__, **(deciding if use_case.group else {})}
    return Sides(times >= cut, groups, times, Split(TIME, columns, _as_it_stands(table[use_case.time], times, cut)))


def is_before(use_case: UseCase, earlier: Any, later: Any) -> bool:
    """Whether a value of the column of times is not later than another."""
    encode = _column(use_case, use_case.time).encoder()
    return is_time(use_case, earlier) and encode(earlier) <= encode(later)


def is_time(use_case: UseCase, value: Any) -> bool:
    """Whether a value may stand in the column of times."""
    return value is not None and _column(use_case, use_case.time).problem(value) is None


def _column(use_case: UseCase, name: str) -> Feature:
    return next(feature for feature in (*use_case.features, *use_case.extras) if feature.name == name)


def _groups(use_case: UseCase, table: "pd.DataFrame", seed: int) -> tuple[Bits, dict[str, str]]:
    """A number for each row, equal for rows that belong together, and the columns that it comes from.

    A row that is in no group belongs to its duplicates.
    """
    deciding = _kinds(use_case.features)
    alike = hashes(table, use_case.features, seed)
    if not use_case.group:
        return alike, deciding
    feature = _column(use_case, use_case.group)
    in_group = table[feature.name].notna().to_numpy()
    groups = np.where(in_group, hashes(table, [feature], seed), alike)
    return groups, _kinds([feature]) if in_group.all() else {**_kinds([feature]), **deciding}


def _kinds(features: Iterable[Feature]) -> dict[str, str]:
    return {feature.name: type(feature).__name__ for feature in features}


def _times(feature: Feature, table: "pd.DataFrame") -> Vector:
    column = table[feature.name]
    if missing := int(column.isna().sum()):
        problem = f"{missing} row(s) have no value, and time decides which rows are held out: fill it in."
        raise InvalidTableError("the data", [Fault(feature.name, problem)])
    places, values = column.factorize()
    times: Vector = np.array([*map(feature.encoder(), values.tolist())], dtype=np.float64)[places]
    return times


def _earliest(times: Vector, groups: Bits) -> Vector:
    _, members = np.unique(groups, return_inverse=True)
    first: Vector = np.full(int(members.max()) + 1, np.inf)
    np.minimum.at(first, members, times)
    of_each: Vector = first[members]
    return of_each


def _cut(feature: Feature, times: Vector, share: float) -> float:
    """The time from which on about that share of the rows is held out; rows of one moment are on the same side."""
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) == 1:
        raise UniformTimeError(feature.name)
    later = 1 - np.cumsum(counts)[:-1] / len(times)  # the share of rows from each moment on, but for the first
    return float(moments[1:][np.argmin(np.abs(later - share))])


def _as_it_stands(column: "pd.Series[Any]", times: Vector, cut: float) -> Any:
    """The first time that is held out, as a plain value of the column; None when there is none."""
    held = np.flatnonzero(times >= cut)
    if not len(held):
        return None
    value = column.iloc[held[np.argmin(times[held])]]
    return value.item() if isinstance(value, np.generic) else value


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
    numbers = _numbers(feature, values)
    if numbers is None:
        bits = np.array([_bits(_text(value)) for value in values.tolist()], dtype=np.uint64)
    else:
        bits = (numbers + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    hashed: Bits = np.append(_mix(bits + _bits(f"{seed} {feature.name}")), np.uint64(0))[places]
    return hashed


def _numbers(feature: Feature, distinct: Any) -> Vector | None:
    """The numbers that the model sees, where 1 equals 1.0; None for texts, unless they stand for a moment."""
    if isinstance(feature, Number) and distinct.dtype in (np.int64, np.float64):
        codes, _ = feature.encode_values(distinct)
        return None if np.isnan(codes).any() else codes
    values = distinct.tolist()
    if isinstance(feature, Category) or (not feature.is_ordered and any(isinstance(value, str) for value in values)):
        return None
    try:
        numbers = np.array([*map(feature.encoder(), values)], dtype=np.float64)
    except (TypeError, ValueError, LookupError, NotImplementedError):
        return None
    return None if np.isnan(numbers).any() else numbers


def _text(value: Any) -> str:
    """An id may be a whole number or a text, which are the same then."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bits(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(bits: Bits) -> Bits:
    """Mix so that each input bit changes half of the output bits: MurmurHash3's finaliser (Appleby, public domain)."""
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xFF51AFD7ED558CCD)
    bits = bits ^ (bits >> np.uint64(33))
    bits = bits * np.uint64(0xC4CEB9FE1A85EC53)
    return bits ^ (bits >> np.uint64(33))
