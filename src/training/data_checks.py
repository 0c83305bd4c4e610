"""Data checks: what a person should look at before a model of these data is trusted.

None of them stops a training, unless it is strict. Each says what was found and what to do about it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from tabserve.aliases import Predictions, Vector
from tabserve.columns.features import Column
from tabserve.declaration.use_case import UseCase
from tabserve.registry.manifest import DataWarning
from tabserve.tasks.decision import Decision
from tabserve.training.hold_out import hashes
from tabserve.training.parts import Part, Parts, first_rows

ALMOST_ALL = 0.99  # of the target that a single column tells: more is hardly ever found without a leak
LOOKED_AT = 20_000  # rows of the training part in which leaks are looked for
BINS = 64  # into which the values of a number are put when they are more
FEWEST_OF_A_CLASS = 30  # rows of the hold-out, with fewer of which its metrics are mostly chance
FEW_FILLED = 30  # rows: what a column holds in fewer, a model can hardly learn from
FEW_SHARE = 0.05  # of the rows, unless a column is filled in so many
FAR_APART = 4.0  # standard errors between the targets of older and newer rows
SHIFT = 0.2  # of the older rows' rate, or of their standard deviation
MOST_NAMED = 8  # columns that a sentence lists


def check_data(use_case: UseCase, parts: Parts) -> tuple[DataWarning, ...]:
    """What is odd about the data, as far as that can be told before anything is fitted.

    Parameters
    ----------
    use_case : UseCase
        Whose columns they have.
    parts : Parts
        The data after the split. Of the hold-out only the number of its rows in each class is looked at and, where time
        decides, how often its target occurs.

    Returns
    -------
    tuple of DataWarning
    """
    columns = {feature.name: _held(parts, feature.name) for feature in use_case.features}
    return (
        *_leaks(use_case, parts.train),
        *_filled(columns, len(parts.held_out)),
        *_same_columns(columns),
        *_same_rows(use_case, parts),
        *_rare_classes(use_case, parts),
        *_shift(use_case, parts),
    )


def check_decisions(
    use_case: UseCase, algorithm: str, decision: Decision, predictions: Predictions
) -> tuple[DataWarning, ...]:
    """What is odd about the decisions of a model on the hold-out.

    Parameters
    ----------
    use_case : UseCase
        What it was trained for.
    algorithm : str
        What it was trained by.
    decision : Decision
        How its decisions follow from its predictions.
    predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)

    Returns
    -------
    tuple of DataWarning
    """
    outcomes = use_case.task.outcomes
    decided = set(decision.decide(predictions).tolist()) if outcomes else set()
    never = [outcome for code, outcome in enumerate(outcomes) if code not in decided]
    return tuple(
        DataWarning(
            f"The model never says '{outcome}' on the hold-out.",
            "It may have found nothing that tells these rows from others, or they are too rare for the declared costs: "
            "raise the cost of missing them, or use the probabilities.",
            algorithm,
        )
        for outcome in never
    )


class _Held(NamedTuple):
    """What is asked of the values of a column.

    Parameters
    ----------
    filled, distinct : int
        How many rows have a value, and how many different ones there are.
    digest : bytes
        The same for columns that differ in nothing but what their values are called; where these hardly repeat, not
        even in that.
    """

    filled: int
    distinct: int
    digest: bytes


def _held(parts: Parts, name: str) -> _Held:
    column = pd.concat([parts.train.table[name], parts.test.table[name]])
    codes = column.factorize()[0].astype(np.int32)
    distinct = int(codes.max()) + 1
    repeats = 2 * distinct <= len(codes)
    values = codes if repeats else pd.util.hash_pandas_object(column, index=False).to_numpy()
    digest = hashlib.blake2b(values.tobytes()).digest() if distinct > 1 else b""
    return _Held(int(np.sum(codes >= 0)), distinct, digest)


def _leaks(use_case: UseCase, train: Part) -> Iterator[DataWarning]:
    """Columns that tell nearly all of the target by themselves."""
    rows = _sample(use_case, train.y)
    y, metric = train.y[rows], use_case.task.metric
    learnt = np.arange(len(y)) % 2 == 0
    if not all(use_case.task.can_be_judged_by(y[half]) for half in (learnt, ~learnt)):
        return
    n_classes = len(use_case.task.outcomes)
    for column, values in _columns(use_case, train.take(rows)):
        told = [_by_value(y, _codes(values), learnt, n_classes)]
        if n_classes <= 2 and pd.api.types.is_numeric_dtype(values):
            told.append(_by_line(y, values.to_numpy(dtype=np.float64, na_value=np.nan), learnt))
        score = max(metric(y[~learnt], predictions) for predictions in told)
        if score >= ALMOST_ALL:
            yield DataWarning(
                f"The column '{column.name}' alone predicts nearly all of the target: {use_case.task.headline} is "
                f"{score:.3f}.",
                "It may hold the outcome, or be known only after it: if it is not known when a prediction is asked "
                "for, ignore it.",
            )


def _sample(use_case: UseCase, y: Vector) -> npt.NDArray[np.intp]:
    """Some rows in a random order; of each class the same number where there are enough."""
    order = np.random.default_rng(0).permutation(len(y))
    outcomes = use_case.task.outcomes
    if len(y) <= LOOKED_AT or not outcomes:
        return order[:LOOKED_AT]
    each = LOOKED_AT // len(outcomes)
    rows = np.concatenate([order[y[order] == code][:each] for code in range(len(outcomes))])
    return np.random.default_rng(0).permutation(rows)


def _columns(use_case: UseCase, some: Part) -> "Iterator[tuple[Column, pd.Series[Any]]]":
    """Each column with its values."""
    for feature in use_case.features:
        yield feature, some.table[feature.name]
    names = [column.name for column in use_case.encoder.columns]
    for column in use_case.derived:
        yield column, pd.Series(some.X[:, names.index(column.name)])


def _codes(values: "pd.Series[Any]") -> npt.NDArray[np.intp]:
    """A code for each value, or for the bin of a number with many; a missing one has its own."""
    codes, known = values.factorize()
    if len(known) > BINS and pd.api.types.is_numeric_dtype(values):
        edges = np.unique(np.nanquantile(values.astype(float), np.linspace(0, 1, BINS + 1)[1:-1]))
        codes = np.where(values.isna(), -1, np.searchsorted(edges, values.astype(float)))
    return codes + 1


def _by_value(y: Vector, codes: npt.NDArray[np.intp], learnt: npt.NDArray[np.bool_], n_classes: int) -> Predictions:
    """What the learnt rows say of the others with the same code: the mean, or the share of each of several classes."""
    if n_classes > 2:
        shares = [_by_value((y == code).astype(np.float64), codes, learnt, 2) for code in range(n_classes)]
        return np.column_stack(shares)
    size = int(codes.max()) + 1
    counts = np.bincount(codes[learnt], minlength=size)
    sums = np.bincount(codes[learnt], y[learnt], minlength=size)
    overall = float(np.mean(y[learnt]))
    means: Vector = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    return means[codes[~learnt]]


def _by_line(y: Vector, values: Vector, learnt: npt.NDArray[np.bool_]) -> Predictions:
    """What a straight line through the learnt rows says of the others."""
    known = learnt & ~np.isnan(values)
    mean = float(np.mean(values[known])) if known.any() else 0.0
    away = np.where(np.isnan(values), 0.0, values - mean)
    slope = float(np.sum(away[learnt] * y[learnt])) / (float(np.sum(away[learnt] ** 2)) or 1.0)
    line: Vector = float(np.mean(y[learnt])) + slope * away[~learnt]
    return line


def _filled(columns: Mapping[str, _Held], n_rows: int) -> Iterator[DataWarning]:
    """Columns without any value, with hardly any, or with a single one."""
    empty = [name for name, held in columns.items() if not held.filled]
    few = [name for name, held in columns.items() if 0 < held.filled < min(FEW_FILLED, FEW_SHARE * n_rows)]
    constant = [name for name, held in columns.items() if held.filled == n_rows and held.distinct == 1]
    if empty:
        yield DataWarning(f"No row has a value of {_named(empty)}: nothing is learnt from it.", "Ignore such columns.")
    if few:
        counts = ", ".join(f"'{name}' in {columns[name].filled}" for name in few[:MOST_NAMED])
        yield DataWarning(
            f"Columns have values in very few of {n_rows:,} rows: {counts}{_more(few)}.",
            "Hardly anything can be learnt from them: ignore them, or collect more of their values.",
        )
    if constant:
        yield DataWarning(
            f"All rows have the same value of {_named(constant)}.",
            "Nothing can be learnt from it: ignore such columns.",
        )


def _same_columns(columns: Mapping[str, _Held]) -> Iterator[DataWarning]:
    first: dict[bytes, str] = {}
    for name, held in columns.items():
        other = first.setdefault(held.digest, name)
        if held.digest and other != name:
            yield DataWarning(
                f"The columns '{other}' and '{name}' hold the same, row by row.",
                "They share their weight in explanations: keep the one that people know.",
            )


def _same_rows(use_case: UseCase, parts: Parts) -> Iterator[DataWarning]:
    n_rows = len(parts.held_out)
    hashed = np.sort(np.concatenate([hashes(part.table, use_case.features, 0) for part in (parts.train, parts.test)]))
    repeated = int(np.sum(hashed[1:] == hashed[:-1]))
    if repeated:
        together = "" if use_case.group or use_case.time else " They are kept together in split and folds."
        yield DataWarning(
            f"{repeated:,} of {n_rows:,} rows repeat the features of another row.{together}",
            "If one case was recorded several times, remove the repetitions: they count as often as they occur.",
        )


def _rare_classes(use_case: UseCase, parts: Parts) -> Iterator[DataWarning]:
    for code, outcome in enumerate(use_case.task.outcomes):
        held, fitted = (int(np.sum(part.y == code)) for part in (parts.test, parts.train))
        if held < FEWEST_OF_A_CLASS:
            yield DataWarning(
                f"Only {held} rows of the hold-out are '{outcome}', and {fitted} rows of the training part.",
                f"Metrics of so few are uncertain, as their intervals show: collect more rows that are '{outcome}', or "
                "merge it with a similar class.",
            )


def _shift(use_case: UseCase, parts: Parts) -> Iterator[DataWarning]:
    """Targets that are otherwise in newer rows than in older ones."""
    if not (use_case.time or use_case.chronological):
        return
    y = parts.y
    older, newer = (parts.train.y, parts.test.y) if use_case.time else np.split(y, [first_rows(len(y))])
    outcomes = use_case.task.outcomes
    for code, outcome in list(enumerate(outcomes))[len(outcomes) == 2 :] if outcomes else [(None, "")]:
        before, after = (y if code is None else (y == code).astype(np.float64) for y in (older, newer))
        if _differ(before, after, relative=code is not None):
            what = f"The share of '{outcome}'" if outcome else "The mean of the target"
            yield DataWarning(
                f"{what} is {np.mean(before):.3g} in the older rows and {np.mean(after):.3g} in the newest.",
                "The world may have changed: the metrics of the newest rows are those to expect, and older rows may "
                "have to be left out.",
            )


def _differ(before: Vector, after: Vector, *, relative: bool) -> bool:
    """Whether two means differ by more than chance, and by enough to matter."""
    difference = abs(float(np.mean(after) - np.mean(before)))
    error = float(np.sqrt(np.var(before) / len(before) + np.var(after) / len(after)))
    unit = float(np.mean(before)) if relative else float(np.std(before))
    return difference > FAR_APART * error and difference > SHIFT * unit


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:MOST_NAMED]) + _more(names)


def _more(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return f" and {more} more" if more > 0 else ""
