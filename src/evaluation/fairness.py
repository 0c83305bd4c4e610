"""Groups: how a model's decisions treat groups of people; tests compare the figures with fairlearn's."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tabserve.aliases import Vector
from tabserve.columns.kinds import check_kinds
from tabserve.evaluation.metrics import roc_auc

if TYPE_CHECKING:
    import pandas as pd

NOT_GIVEN = "not given"
FEWEST = 20  # rows that a figure must rest on before it is shown to anyone who asks


@dataclass(frozen=True, kw_only=True)
class GroupBy:
    """Groups people by a feature.

    Parameters
    ----------
    feature : str
        Name of a feature.
    cuts : tuple of float
        For a number: the largest value of each group but the last, ascending. Without any, each value is a group.
    """

    feature: str
    cuts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_kinds(self)

    def labels(self, table: "pd.DataFrame") -> list[str]:
        """The group of each row.

        Parameters
        ----------
        table : DataFrame
            n_rows rows with the feature.

        Returns
        -------
        list of str
            n_rows labels; rows without a value are a group of their own.
        """
        values = table[self.feature].convert_dtypes()  # whole numbers stay whole where some are missing
        given = values.notna()
        labels = {value: self._label(value) for value in values[given].unique()}
        without = NOT_GIVEN
        while without in labels.values():  # a value may have that name
            without = f"({without})"
        return [labels[value] if known else without for value, known in zip(values, given, strict=True)]

    def _label(self, value: Any) -> str:
        if not self.cuts:
            return str(value)
        place = bisect_left(self.cuts, value)
        if place == 0:
            return f"{_digits(self.cuts[0])} and under"
        if place == len(self.cuts):
            return f"over {_digits(self.cuts[-1])}"
        return f"over {_digits(self.cuts[place - 1])} to {_digits(self.cuts[place])}"


def _digits(cut: float) -> str:
    return str(cut).removesuffix(".0")  # all digits: two cuts must not look the same


@dataclass(frozen=True)
class GroupComparison:
    """How the decisions treat groups; an undefined figure, such as the AUC of a single outcome, is None.

    Parameters
    ----------
    values : mapping
        For each group its rows, the share with outcome 1, the mean probability (`mean_score`), the ROC AUC, the
        accuracy, the share that gets the favourable decision (selection rate), and the share of those with outcome 0
        that does (opportunity).
    disparate_impact : float or None
        The smallest selection rate divided by the largest; None for fewer than two groups.
    equal_opportunity_difference : float or None
        The largest opportunity minus the smallest (Hardt, Price and Srebro 2016).
    withheld : int
        How many groups are left out of `values`.
    """

    values: Mapping[str, Mapping[str, float | None]]
    disparate_impact: float | None
    equal_opportunity_difference: float | None
    withheld: int = 0

    def publishable(self) -> "GroupComparison":
        """The comparison without small groups, and without figures from which theirs could be computed.

        A group of fewer than `FEWEST` rows is left out. So are the next larger ones, until those left out have that
        many rows together: the figures of the whole hold-out are known, and the figures of the groups left out follow
        from them and from those of the other groups. If a group is left out, ratio and difference are None.
        """
        sizes = {group: int(figures["rows"] or 0) for group, figures in self.values.items()}
        left_out: set[str] = set()
        rows = 0
        for group in sorted(sizes, key=sizes.__getitem__):
            if sizes[group] >= FEWEST and not 0 < rows < FEWEST:
                break
            left_out.add(group)
            rows += sizes[group]
        if not left_out:
            return self
        shown = {group: figures for group, figures in self.values.items() if group not in left_out}
        return GroupComparison(shown, None, None, withheld=len(left_out))


def compare_groups(y: Vector, probabilities: Vector, decisions: Vector, groups: Sequence[str]) -> GroupComparison:
    """Compare the decisions about groups; the favourable decision is 0, the other a refusal.

    Parameters
    ----------
    y : ndarray of 0 and 1, shape (n_rows,)
        The outcomes, 1 being the one that a refusal is meant for.
    probabilities : ndarray, shape (n_rows,)
        Of a 1.
    decisions : ndarray of 0 and 1, shape (n_rows,)
    groups : sequence of str
        The group of each row.

    Returns
    -------
    GroupComparison
    """
    names, places = np.unique(np.array(groups, dtype=object), return_inverse=True)
    by_group = np.split(np.argsort(places, kind="stable"), np.cumsum(np.bincount(places))[:-1])
    values = {
        str(name): _treatment(y[rows], probabilities[rows], decisions[rows])
        for name, rows in zip(names, by_group, strict=True)
    }
    rates = [treatment["selection_rate"] for treatment in values.values()]
    chances = [chance for treatment in values.values() if not math.isnan(chance := treatment["opportunity"])]
    is_comparison = len(values) > 1
    return GroupComparison(
        values={
            name: {metric: _number(one) for metric, one in treatment.items()} for name, treatment in values.items()
        },
        disparate_impact=min(rates) / max(rates) if is_comparison and max(rates) else None,
        equal_opportunity_difference=max(chances) - min(chances) if is_comparison and chances else None,
    )


def _treatment(y: Vector, probabilities: Vector, decisions: Vector) -> dict[str, float]:
    """How a group is treated, as `GroupComparison.values` says; NaN where a figure is undefined."""
    without_event = decisions[y == 0]
    return {
        "rows": len(y),
        "share_of_1": float(np.mean(y)),
        "accuracy": float(np.mean(y == decisions)),
        "selection_rate": float(np.mean(decisions == 0)),
        "opportunity": float(np.mean(without_event == 0)) if len(without_event) else math.nan,
        "mean_score": float(np.mean(probabilities)),
        "roc_auc": roc_auc(y, probabilities),
    }


def smallest_ratios(groups: Mapping[str, GroupComparison]) -> dict[str, float]:
    """The disparate impact of each grouping; NaN where it is undefined.

    Parameters
    ----------
    groups : mapping of GroupComparison
        By feature.

    Returns
    -------
    dict of float
    """
    ratios = {name: comparison.disparate_impact for name, comparison in groups.items()}
    return {name: math.nan if ratio is None else ratio for name, ratio in ratios.items()}


def _number(value: Any) -> float | None:
    """A plain number, None for NaN, which is not JSON."""
    return float(value) if math.isfinite(value) else None
