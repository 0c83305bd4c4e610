"""Parts of dates: what is computed from them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tabserve.draft.profile import Profile
from tabserve.draft.proposal import Proposal
from tabserve.draft.words import BIRTHS, names_one_of

MOST_PAIRS = 3  # of dates between which time is measured


def derived_parts(proposals: Sequence[Proposal]) -> dict[str, dict[str, Any]]:
    """The columns to compute from dates: year, month, weekday and hour where they vary, and times between two dates.

    Parameters
    ----------
    proposals : sequence of Proposal

    Returns
    -------
    dict of dict
        Kind and options by name.
    """
    dates = [proposal for proposal in proposals if proposal.kind in ("date", "datetime")]
    taken = {proposal.name for proposal in proposals}
    found = {
        f"{date.name}_{part}": {"kind": "date_part", "date": date.name, "part": part}
        for date in dates
        for part in _varying_parts(date)
    }
    for first, second in list(combinations(dates, 2))[:MOST_PAIRS]:
        start, end = _in_order(first, second)
        is_birth = names_one_of(start.name, BIRTHS)
        kind, word = ("years_between", "years") if is_birth else ("days_between", "days")
        found[f"{word}_{start.name}_to_{end.name}"] = {"kind": kind, "start": start.name, "end": end.name}
    return {name.replace(" ", "_"): line for name, line in found.items() if name not in taken}


def _varying_parts(date: Proposal) -> list[str]:
    moments = date.values
    assert moments is not None
    months = moments.astype("datetime64[M]").astype(np.int64)
    days = moments.astype("datetime64[D]").astype(np.int64)
    hours = moments.astype("datetime64[h]").astype(np.int64) % 24
    parts = {"year": months // 12, "month": months % 12, "weekday": days % 7, "hour": hours}
    if names_one_of(date.name, BIRTHS):
        parts = {"year": months // 12}
    return [part for part, values in parts.items() if len(np.unique(values)) > 1]


def _in_order(first: Proposal, second: Proposal) -> tuple[Proposal, Proposal]:
    """The two dates, that which is earlier in most rows before the other."""
    earlier = np.mean(_moments(first.profile, first) <= _moments(second.profile, second))
    return (first, second) if earlier >= 0.5 else (second, first)


def _moments(profile: Profile, proposal: Proposal) -> Any:
    assert proposal.values is not None
    return np.append(proposal.values, np.datetime64("NaT", "D"))[profile.codes]
