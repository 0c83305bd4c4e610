"""Bounds of numbers: wider than what was seen, since other rows will come."""

import math

from tabserve.draft.words import AGES, YEARS, names_one_of, words_of

MARGIN = 0.25  # of the range that was seen, beyond each of its ends
_STEPS = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)  # of round numbers
_KNOWN: tuple[tuple[frozenset[str], float, float], ...] = (
    (AGES, 0, 120),
    (frozenset({"month", "monat", "mois", "mes"}), 1, 12),
    (frozenset({"day", "tag", "jour", "día", "dia"}), 1, 31),
    (frozenset({"hour", "stunde", "heure", "hora"}), 0, 24),
    (frozenset({"minute", "second"}), 0, 60),
    (frozenset({"week", "woche", "semaine", "semana"}), 0, 53),
    (frozenset({"latitude", "lat"}), -90, 90),
    (frozenset({"longitude", "lon", "lng", "long"}), -180, 180),
    (frozenset({"percent", "percentage", "pct", "prozent", "pourcentage"}), 0, 100),
)


def bounds_of(name: str, low: float, high: float, *, whole: bool) -> tuple[float, float]:
    """Bounds to propose.

    Parameters
    ----------
    name : str
        The column's name: an age ends at 120.
    low, high : float
        The smallest and the largest value seen.
    whole : bool
        Whether all values are whole numbers.

    Returns
    -------
    low, high : float
        Whole numbers as integers.
    """
    for vocabulary, least, most in _KNOWN:
        if names_one_of(name, vocabulary) and len(words_of(name)) <= 2 and least <= low and high <= most:
            return least, most
    if whole and names_one_of(name, YEARS) and low >= 1500 and high <= 2200:
        return math.floor(low / 10) * 10, math.ceil((high + 10) / 10) * 10
    if not whole and low >= 0 and high <= 1:
        return 0, 1
    margin = (high - low or abs(high) or 1) * MARGIN
    least = 0 if low >= 0 else -_round_number(margin - low, whole=whole)
    return least, _round_number(high + margin, whole=whole) if high > 0 or low == 0 else 0


def _round_number(value: float, *, whole: bool) -> float:
    """The next round number that is not below a positive one."""
    power = 10.0 ** math.floor(math.log10(value))
    rounded = next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))
    if whole or rounded >= 10:
        return math.ceil(rounded)
    return max(float(f"{rounded:.6g}"), value)
