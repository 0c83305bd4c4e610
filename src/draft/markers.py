"""Markers: texts and numbers in cells that stand for a missing value."""

from collections.abc import Sequence

import numpy as np

from tabserve.draft.dates import formats_of
from tabserve.draft.numbers import style_of, values_of
from tabserve.draft.profile import Profile
from tabserve.draft.proposal import cut
from tabserve.draft.words import MARKERS, MAYBE_WORDS, SENTINELS, pair_of

FEWEST = 10  # rows from which on one kind of value is the rule
MOSTLY = 0.9  # share of rows with numbers from which on the others are held for faults
FEW_FAULTS = 5  # different texts among numbers that are held for missing


def without_markers(profile: Profile, decimal: str) -> tuple[Profile, list[str]]:
    """The profile without texts that stand for missing, and what is to be said about them."""
    found = [text for text in profile.texts if text.casefold() in MARKERS]
    rest = profile.without(found)
    if found and not _is_measured(rest, decimal):
        found = [text for text in found if not _is_word(text, rest.texts)]
        rest = profile.without(found)
    doubts = [f"“{text}” is read as missing ({_rows({text: rest.markers[text]})})." for text in found]
    if "NA" in rest.texts:
        doubts.append('NA is read as a value, like the other codes; if it means missing, write markers = ["NA"].')
    if faults := _faults_among_numbers(rest, decimal):
        rest = rest.without(faults)
        rows = _rows({text: rest.markers[text] for text in faults})
        doubts.append(f"Mixed types: {_quoted(faults)} among numbers ({rows}) is read as missing.")
    if sentinel := _sentinel(rest, decimal):
        rest = rest.without([sentinel])
        rows = _rows({sentinel: rest.markers[sentinel]})
        doubts.append(f"{sentinel} lies far from all other values and is read as missing ({rows}).")
    return rest, doubts


def _is_measured(profile: Profile, decimal: str) -> bool:
    """Whether a column holds numbers, dates or yes and no: a word among them is no value."""
    texts = profile.texts
    return not texts or bool(style_of(texts, decimal) or pair_of(texts) or formats_of(texts))


def _is_word(text: str, others: Sequence[str]) -> bool:
    """Whether a marker may be a value of a category: `none` is, and NA among codes of capital letters."""
    if text.casefold() not in MAYBE_WORDS:
        return False
    return text.casefold() != "na" or all(one.isupper() and len(one) <= 5 for one in others)


def _faults_among_numbers(profile: Profile, decimal: str) -> list[str]:
    """The few texts in a column that otherwise holds numbers."""
    faults = [text for text in profile.texts if not style_of([text], decimal)]
    if not faults or len(faults) > FEW_FAULTS:
        return []
    rest = profile.without(faults)
    is_numeric = rest.filled >= max(MOSTLY * profile.filled, FEWEST) and style_of(rest.texts, decimal)
    return faults if is_numeric else []


def _sentinel(profile: Profile, decimal: str) -> str | None:
    """A number such as -999 that is farther from the others than they are from each other."""
    style = style_of(profile.texts, decimal) if len(profile.texts) > 3 else None
    if not style:
        return None
    values = values_of(profile.texts, style)
    for end in (int(np.argmin(values)), int(np.argmax(values))):
        others = np.delete(values, end)
        gap = np.min(np.abs(others - values[end]))
        is_odd = values[end] < 0 <= others.min() or gap > 2 * np.ptp(others)
        if values[end] in SENTINELS and profile.counts[end] > 1 and gap > np.ptp(others) / 2 and is_odd:
            return profile.texts[end]
    return None


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"“{cut(text)}”" for text in texts)


def _rows(counts: dict[str, int]) -> str:
    count = sum(counts.values())
    return f"{count:,} row{'s' if count != 1 else ''}"
