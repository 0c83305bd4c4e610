"""What terminal and page show of a column."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tabserve.draft.proposal import Proposal, cut

BARS = 12
EXAMPLES = 3


def heights_of(proposal: Proposal) -> Sequence[float]:
    """Heights of a small histogram: over the range, or of the most frequent values; empty for none."""
    profile = proposal.profile
    if proposal.is_secret or len(profile.texts) < 2:
        return ()
    if proposal.values is None:
        values = proposal.options.get("values", [])
        counts = dict(profile.by_frequency)
        if 0 < len(values) <= BARS and proposal.kind == "ordered":
            return [float(counts.get(value, 0)) for value in values]
        return [float(count) for _, count in profile.by_frequency[:BARS]]
    if len(profile.texts) <= BARS:
        return [float(profile.counts[place]) for place in np.argsort(proposal.values)]
    heights, _ = np.histogram(proposal.values.astype(np.float64), bins=BARS, weights=profile.counts)
    return [float(height) for height in heights]


def examples_of(proposal: Proposal) -> str:
    """The most frequent values; only the outline of those that may tell who somebody is."""
    texts = [cut(text) for text, _ in proposal.profile.by_frequency[:EXAMPLES]]
    return ", ".join(dict.fromkeys(map(outline, texts)) if proposal.is_secret else texts)


def outline(text: str) -> str:
    """A text's shape: Aa for letters and 9 for digits."""
    return re.sub(r"\d", "9", re.sub(r"[^\W\d_]", lambda letter: "A" if letter[0].isupper() else "a", text))


def missing_share(proposal: Proposal) -> str:
    """The share of missing values; 0 only when none is missing."""
    profile = proposal.profile
    share = profile.missing / profile.rows if profile.rows else 0
    if not profile.missing:
        return "0"
    return "<1 %" if share < 0.01 else f"{100 * share:.0f} %"


def declared(options: dict[str, Any]) -> str:
    """What the declaration says of a column besides its kind, in short."""
    parts = [f"{name} = {_value(value)}" for name, value in options.items()]
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        listed = ", ".join(map(str, value[:8]))
        return f"{listed}, … ({len(value)})" if len(value) > 8 else listed
    return str(value)
