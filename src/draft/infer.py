"""Kinds of columns, inferred from their cells.

Each rule looks at a profile and proposes a kind, or leaves it to the next.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from typing import Any, TypeAlias

import numpy as np

from tabserve.aliases import Vector
from tabserve.draft.bounds import bounds_of
from tabserve.draft.dates import formats_of, has_time, is_iso, moments_of
from tabserve.draft.markers import FEWEST, without_markers
from tabserve.draft.numbers import style_of, values_of
from tabserve.draft.profile import Profile
from tabserve.draft.proposal import Proposal, cut
from tabserve.draft.words import (
    BIRTHS,
    CODES,
    IDENTIFIERS,
    SURE_IDENTIFIERS,
    TIMES,
    UNDERSTOOD,
    ends_with_one_of,
    is_personal,
    names_one_of,
    pair_of,
    scale_of,
)

LISTED = 30  # values that a category may list; one with more learns them from the training part
UNIQUE = 0.95  # share of different values from which on a column tells rows apart
RARE = 5  # rows; a category with a rarer value surely has others still
OTHERS = frozenset({"other", "others", "andere", "sonstige", "sonstiges", "autre", "autres", "otro", "otros", "misc"})
_LEADING_ZERO = re.compile(r"0\d+")
_SPACED = re.compile(r"[\s|;]")
_LISTS = re.compile(r"[|;]|, ")

Rule: TypeAlias = Callable[[Profile, str], Proposal | None]


def infer(profile: Profile, decimal: str) -> Proposal:
    """Propose a kind for a column.

    Parameters
    ----------
    profile : Profile
        Its cells.
    decimal : str
        The decimal sign of the file.

    Returns
    -------
    Proposal
    """
    cleaned, doubts = without_markers(profile, decimal)
    proposal = next(found for rule in RULES if (found := rule(cleaned, decimal)))
    if cleaned.missing and proposal.kind not in ("ignore", "id"):
        proposal.options["missing"] = True
    if cleaned.markers:
        proposal.options["markers"] = sorted(cleaned.markers)
    return replace(proposal, doubts=(*proposal.doubts, *doubts))


def _nothing(profile: Profile, decimal: str) -> Proposal | None:
    if profile.texts:
        return None
    return Proposal(profile, "ignore", "empty").doubting("No row has a value: left out.")


def _constant(profile: Profile, decimal: str) -> Proposal | None:
    if len(profile.texts) > 1 or profile.missing:
        return None
    return Proposal(profile, "ignore", "constant", seen=cut(profile.texts[0])).doubting(
        "It has the same value in all rows, so nothing can be learnt from it: left out."
    )


def _boolean(profile: Profile, decimal: str) -> Proposal | None:
    pair = pair_of(profile.texts)
    if not pair:
        return None
    no, yes = pair
    share = profile.counts[profile.texts.index(yes)] / profile.filled
    return Proposal(profile, "boolean", f"{no} or {yes}", words_option((no, yes)), f"{share:.0%} {yes}")


def words_option(pair: tuple[str, str]) -> dict[str, Any]:
    """The words for no and yes as an option, unless every boolean column understands them."""
    return {} if (pair[0].casefold(), pair[1].casefold()) in UNDERSTOOD else {"words": list(pair)}


def _date(profile: Profile, decimal: str) -> Proposal | None:
    if profile.types and profile.types.keys() <= {"date", "datetime"}:
        formats = ["%Y-%m-%d %H:%M:%S" if any(len(text) > 10 for text in profile.texts) else "%Y-%m-%d"]
        moments = np.array(profile.texts, dtype="datetime64[s]")
    else:
        formats = formats_of(profile.texts)
        if not formats or ("%Y%m%d" in formats and not names_one_of(profile.name, TIMES | BIRTHS)):
            return None
        moments = moments_of(profile.texts, formats[0])
    kind = "datetime" if has_time(formats[0]) else "date"
    first, last = (str(one)[:10] for one in (moments.min(), moments.max()))
    if len(formats) > 1:
        ways = " or ".join(f'format = "{one}"' for one in formats[:2])
        return Proposal(profile, "ignore", "dates, day or month first", seen=cut(profile.texts[0])).doubting(
            f'Dates in which day and month cannot be told apart: left out until you decide. Write kind = "{kind}" '
            f"and {ways}."
        )
    options = {} if is_iso(formats[0]) else {"format": formats[0]}
    proposal = Proposal(profile, kind, "all cells are dates", options, f"{first} to {last}", moments)
    return _in_their_century(proposal) if "%y" in formats[0] else proposal


def _in_their_century(proposal: Proposal) -> Proposal:
    """Years of two digits: births are not in the future, and other dates there are doubted."""
    moments, today = proposal.values, date.today().isoformat()
    assert moments is not None
    late = moments > np.datetime64(today)
    if not late.any():
        return proposal
    if not names_one_of(proposal.name, BIRTHS):
        return proposal.doubting(
            f"Its years have two digits, and some dates are in the future: {proposal.seen}. If these are of the last "
            f'century, write high = "{today}": then dates after it are read a hundred years earlier.'
        )
    earlier = [one if one <= np.datetime64(today) else _century_before(one) for one in moments]
    values = np.array(earlier, dtype=moments.dtype)
    seen = f"{str(values.min())[:10]} to {str(values.max())[:10]}"
    return replace(proposal, options={**proposal.options, "high": today}, seen=seen, values=values).doubting(
        f"Its years have two digits: those that would be after {today} are read a hundred years earlier."
    )


def _century_before(moment: np.datetime64) -> datetime:
    found: datetime = moment.astype("datetime64[s]").item()
    return found.replace(year=found.year - 100)


def _number(profile: Profile, decimal: str) -> Proposal | None:
    typed = bool(profile.types) and profile.types.keys() <= {"number", "boolean"}
    style = style_of(profile.texts, "." if typed else decimal)
    if not style:
        return None
    values = values_of(profile.texts, style)
    whole = bool(np.all(values == np.floor(values)))
    seen = f"{_short(values.min())} to {_short(values.max())}"
    if not style.unit and whole and (found := _number_that_is_none(profile, values, seen)):
        return found
    if np.abs(values).max() > 1e15:
        return Proposal(profile, "ignore", "too large for numbers", seen=seen).doubting(
            "Its numbers are too large to be measurements: left out."
        )
    low, high = bounds_of(profile.name, values.min(), values.max(), whole=whole)
    options = {"low": low, "high": high, **({"unit": style.unit} if style.unit not in ("", "%") else {})}
    options |= {name: True for name, is_so in (("percent", style.unit == "%"), ("thousands", style.thousands)) if is_so}
    why = "whole numbers" if whole else "numbers"
    return Proposal(profile, "integer" if whole else "number", why, options, seen, values)


def _number_that_is_none(profile: Profile, values: Vector, seen: str) -> Proposal | None:
    """Digits that do not measure anything: codes and identifiers."""
    if any(map(_LEADING_ZERO.fullmatch, profile.texts)):
        return _category(profile, "codes with leading zeros").doubting(
            "Digits with leading zeros are codes and not numbers: read as a category."
        )
    if names_one_of(profile.name, CODES) and len(profile.texts) > 2:
        return _category(profile, "codes by its name").doubting(
            "By its name it holds codes and not amounts: read as a category."
        )
    is_row_number = len(values) == profile.rows >= FEWEST and bool(np.all(np.diff(values) == 1))
    if is_row_number or (_tells_rows_apart(profile) and ends_with_one_of(profile.name, IDENTIFIERS)):
        return _id(profile, "a running number" if is_row_number else "different in each row", seen)
    return _owner(profile)


def _scale(profile: Profile, decimal: str) -> Proposal | None:
    scale = scale_of(profile.texts)
    if not scale:
        return None
    options = {"values": list(scale)}
    return Proposal(profile, "ordered", "a well-known order", options, _most_frequent(profile)).doubting(
        f"The order is taken to be {', '.join(scale[:12])}: check it."
    )


def _person(profile: Profile, decimal: str) -> Proposal | None:
    """Names and addresses of people."""
    is_email = all("@" in text and " " not in text for text in profile.texts)
    if not is_email and (not is_personal(profile.name) or len(profile.texts) <= LISTED):
        return None
    return Proposal(profile, "ignore", "tells who somebody is", is_secret=True).doubting(
        "It tells who somebody is, so no model should learn from it: left out. To carry it into answers, write kind = "
        '"id".'
    )


def _identifier(profile: Profile, decimal: str) -> Proposal | None:
    if _tells_rows_apart(profile) and (
        ends_with_one_of(profile.name, IDENTIFIERS) or not any(map(_SPACED.search, profile.texts))
    ):
        return _id(profile, "different in each row")
    return _owner(profile)


def _owner(profile: Profile) -> Proposal | None:
    """An identifier that several rows share."""
    many = len(profile.texts) > LISTED or len(profile.texts) > profile.filled / 3
    if not ends_with_one_of(profile.name, SURE_IDENTIFIERS) or not many:
        return None
    return Proposal(profile, "id", "an identifier by its name", is_secret=True)


def _text(profile: Profile, decimal: str) -> Proposal | None:
    counts = np.array([len(text.split()) for text in profile.texts])
    is_list = np.mean([bool(_LISTS.search(text)) for text in profile.texts]) > 0.3
    varied = len(profile.texts) > max(LISTED, 0.2 * profile.filled)
    if not (varied or _tells_rows_apart(profile)) or not (
        counts.mean() >= 2.5 or is_list or _tells_rows_apart(profile)
    ):
        return None
    return Proposal(
        profile, "text", "short texts", seen=f"{counts.mean():.0f} words on average", is_secret=True
    ).doubting(
        "Free text: its words are learnt from. If it may hold names of people or is written after the outcome, write "
        'kind = "ignore".'
    )


def _values(profile: Profile, decimal: str) -> Proposal | None:
    return _category(profile, f"{len(profile.texts)} different texts")


def _category(profile: Profile, why: str) -> Proposal:
    other = next((text for text in profile.texts if text.casefold() in OTHERS), "other")
    if len(profile.texts) > LISTED:
        proposal = Proposal(profile, "category", why, {"other": other}, _most_frequent(profile))
        if len(profile.texts) > profile.filled / 2:
            proposal = proposal.doubting("Most of its values occur once: little can be learnt from them.")
        return proposal
    options: dict[str, object] = {"values": sorted(profile.texts, key=str.casefold)}
    proposal = Proposal(profile, "category", why, options, _most_frequent(profile))
    rare = [text for text, count in profile.by_frequency if count < RARE]
    if not rare:
        return proposal
    options["other"] = other
    what = f"{len(rare)} of its values occur" if len(rare) > 1 else f"{cut(rare[0])} occurs"
    return proposal.doubting(f"{what} in fewer than {RARE} rows: values never seen are read as {other!r}.")


def _id(profile: Profile, why: str, seen: str = "") -> Proposal:
    return Proposal(profile, "id", why, seen=seen, is_secret=True).doubting(
        "It identifies rows and measures nothing: answers repeat it, and no model sees it."
    )


def _tells_rows_apart(profile: Profile) -> bool:
    return profile.filled >= FEWEST and len(profile.texts) >= UNIQUE * profile.filled


def _most_frequent(profile: Profile) -> str:
    return ", ".join(cut(text, 16) for text, _ in profile.by_frequency[:3]) + (", …" if len(profile.texts) > 3 else "")


def _short(value: float) -> str:
    """A number in few characters."""
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{value:.0f}"
    return f"{value:.4g}"


RULES: tuple[Rule, ...] = (
    _nothing,
    _constant,
    _boolean,
    _date,
    _number,
    _scale,
    _person,
    _identifier,
    _text,
    _values,
)
