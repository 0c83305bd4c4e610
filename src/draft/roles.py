"""Roles: by which columns rows belong together or follow each other."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tabserve.draft.proposal import Proposal
from tabserve.draft.target import FEWEST_OF_A_CLASS, DraftTarget
from tabserve.draft.words import BIRTHS, OWNERS, TIMES, names_one_of

FEWEST_TIMES = 10  # different ones
SORTED = 0.99  # share of rows that follow the one before from which on a file is in the order of time
HOLD_OUT = 0.3
FEWEST_GROUPS = 20


def group_of(proposals: Sequence[Proposal]) -> tuple[str, dict[str, list[str]]]:
    """The column whose rows must stay on one side of the split, and what is to be said about it.

    Parameters
    ----------
    proposals : sequence of Proposal
        All columns but the target.

    Returns
    -------
    group : str
        Empty for none.
    doubts : dict of list of str
        By column.
    """
    for proposal in proposals:
        profile = proposal.profile
        shared = 1 - len(profile.texts) / max(profile.filled, 1)
        if (
            proposal.kind == "id"
            and not profile.missing
            and len(profile.texts) >= FEWEST_GROUPS
            and shared > 0.05
            and (names_one_of(proposal.name, OWNERS) or shared > 0.3)
        ):
            doubt = (
                f"Several rows share a value ({profile.rows:,} rows of {len(profile.texts):,}), so it is the group: "
                "its rows stay on one side of the split, and models are judged on other groups than they learnt from."
            )
            return proposal.name, {proposal.name: [doubt]}
    return "", {}


def time_of(proposals: Sequence[Proposal], target: DraftTarget) -> tuple[str, dict[str, list[str]]]:
    """The column that says when a row happened, and what is to be said about it.

    Parameters
    ----------
    proposals : sequence of Proposal
        All columns but the target.
    target : DraftTarget
        A split by time is proposed only where each of its classes is on both sides.

    Returns
    -------
    time : str
        Empty for none.
    doubts : dict of list of str
        By column.
    """
    doubts: dict[str, list[str]] = {}
    for proposal in proposals:
        if proposal.kind not in ("date", "datetime") or names_one_of(proposal.name, BIRTHS):
            continue
        moments = proposal.values
        assert moments is not None
        if len(moments) < FEWEST_TIMES or proposal.profile.missing:
            continue
        times = moments.astype(np.int64)[proposal.profile.codes]
        in_order = max(np.mean(np.diff(times) >= 0), np.mean(np.diff(times) <= 0))
        if (in_order >= SORTED or names_one_of(proposal.name, TIMES)) and _both_sides(times, target):
            doubt = (
                "It says when a row happened, so it is the time: models are judged on the latest rows, as in service. "
                "If rows do not follow each other in time, remove the key `time`."
            )
            return proposal.name, {proposal.name: [doubt]}
        doubts[proposal.name] = [
            f'If it says when a row happened, write time = "{proposal.name}": models are judged on the latest rows.'
        ]
    return "", doubts


def _both_sides(times: npt.NDArray[np.int64], target: DraftTarget) -> bool:
    """Whether the first rows and the last ones have each class."""
    known = ~np.isnan(target.y)
    y = target.y[known][np.argsort(times[known], kind="stable")]
    cut = round(len(y) * (1 - HOLD_OUT))
    if not target.labels:
        return True
    counts = [np.bincount(part.astype(np.int64), minlength=len(target.labels)) for part in (y[:cut], y[cut:])]
    return bool(min(map(np.min, counts)) >= FEWEST_OF_A_CLASS / 2)
