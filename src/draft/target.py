"""The target: what is predicted, and as which kind of task."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tabserve.aliases import Vector
from tabserve.draft.infer import infer, words_option
from tabserve.draft.profile import Profile
from tabserve.draft.proposal import Proposal
from tabserve.draft.words import CLASS_NAMES, POSITIVE, names_one_of, pair_of
from tabserve.errors import DraftError

MOST_CLASSES = 30
FEW_NUMBERS = 10  # different whole numbers that may be grades or codes of classes
IMBALANCE = 0.1
SKEWNESS = 2.0
FEWEST_OF_A_CLASS = 20  # rows


@dataclass(frozen=True)
class DraftTarget:
    """What is proposed for the target.

    Parameters
    ----------
    proposal : Proposal
        Its column.
    task : str
        "binary", "multiclass" or "regression".
    labels : tuple of str
        The classes as they stand in the file, in the order of their codes; empty for a number. Of two, the second is
        the event.
    y : ndarray, shape (n_rows,)
        Classes or numbers; NaN where the target is missing.
    """

    proposal: Proposal
    task: str
    labels: tuple[str, ...]
    y: Vector


def draft_target(profile: Profile, decimal: str) -> DraftTarget:
    """Propose what is predicted.

    Parameters
    ----------
    profile : Profile
        The target's column.
    decimal : str
        The decimal sign of the file.

    Returns
    -------
    DraftTarget

    Raises
    ------
    DraftError
        When nothing can be learnt from it, or no task predicts such values.
    """
    proposal = infer(profile, decimal)
    texts = proposal.profile.texts
    if len(texts) < 2:
        found = f"is {texts[0]!r:.40} in all rows" if texts else "has no value in any row"
        raise DraftError(f"The target '{profile.name}' {found}: nothing can be learnt from it.")
    if len(texts) == 2:
        target = _binary(proposal)
    elif proposal.kind in ("date", "datetime") or proposal.why.startswith("dates"):
        raise DraftError(
            f"The target '{profile.name}' holds dates, which no task predicts: choose a number or classes."
        )
    elif proposal.values is not None and not _are_classes(proposal):
        target = _number(proposal)
    elif len(texts) > MOST_CLASSES:
        raise DraftError(
            f"The target '{profile.name}' has {len(texts):,} different texts; at most {MOST_CLASSES} classes can be "
            "drafted. Choose another target, or group its values in the file."
        )
    else:
        target = _multiclass(proposal)
    return _with_missing_rows(target)


def _binary(proposal: Proposal) -> DraftTarget:
    profile = proposal.profile
    pair = pair_of(profile.texts)
    labels, reason = (pair, "it says yes") if pair else _by_rarity(profile)
    if pair:
        proposal = _as_classes(proposal, "boolean", words_option(pair))
    else:
        proposal = _as_classes(proposal, "category", {"values": list(labels)})
    share = float(profile.counts[profile.texts.index(labels[1])] / profile.filled)
    proposal = replace(proposal, why="two values", seen=f"{share:.1%} {labels[1]}").doubting(
        f"The event, whose probability is predicted, is “{labels[1]}”, since {reason}: {share:.1%} of the rows. If it "
        "is the other, exchange the two in outcomes."
    )
    rare = min(share, 1 - share)
    if rare < IMBALANCE:
        proposal = proposal.doubting(
            f"Imbalance: the rarer class has {rare:.1%} of the rows ({int(profile.counts.min()):,}). Nothing is "
            "re-weighted, so that probabilities stay true; look at PR AUC, and set the costs of both mistakes."
        )
    return DraftTarget(proposal, "binary", labels, _codes(profile, labels))


def _as_classes(proposal: Proposal, kind: str, options: dict[str, Any]) -> Proposal:
    """The column with classes for values; what stands for missing stays so."""
    markers = proposal.options.get("markers")
    return replace(
        proposal,
        kind=kind,
        options={**options, **({"markers": markers} if markers else {})},
        values=None,
        doubts=tuple(doubt for doubt in proposal.doubts if "read as missing" in doubt),
        is_secret=False,
    )


def _by_rarity(profile: Profile) -> tuple[tuple[str, str], str]:
    """The two values, the event last, and why it is the event."""
    known = [text for text in profile.texts if text.casefold() in POSITIVE]
    if len(known) == 1:
        (other,) = set(profile.texts) - set(known)
        return (other, known[0]), "it names something that happens"
    (more, _), (less, _) = profile.by_frequency
    return (more, less), "it is the rarer value"


def _are_classes(proposal: Proposal) -> bool:
    """Whether whole numbers are codes of classes, by the target's name."""
    named = names_one_of(proposal.name, CLASS_NAMES)
    return proposal.kind == "integer" and len(proposal.profile.texts) <= FEW_NUMBERS and named


def _number(proposal: Proposal) -> DraftTarget:
    profile, values = proposal.profile, proposal.values
    assert values is not None
    y = np.append(values, np.nan)[profile.codes]
    filled = y[~np.isnan(y)]
    if len(values) <= FEW_NUMBERS:
        proposal = proposal.doubting(
            f"It has only {len(values)} different numbers and is predicted as a number. If they are classes, write "
            'kind = "category" and list them as values.'
        )
    if filled.min() > 0 and _skewness(filled) > SKEWNESS > 2 * abs(_skewness(np.log(filled))):
        proposal = proposal.doubting(
            "Its distribution has a long tail: where relative errors matter more than absolute ones, learn it on a log "
            "scale with log = true."
        )
    return DraftTarget(proposal, "regression", (), y)


def _skewness(values: Vector) -> float:
    spread = float(np.std(values))
    return float(np.mean((values - values.mean()) ** 3)) / spread**3 if spread else 0.0


def _multiclass(proposal: Proposal) -> DraftTarget:
    profile = proposal.profile
    labels = tuple(proposal.options.get("values", sorted(profile.texts, key=str.casefold)))
    labels = tuple(label for label in labels if label in profile.texts)
    rare = {label: count for label, count in profile.by_frequency if count < FEWEST_OF_A_CLASS}
    proposal = _as_classes(proposal, "category", {"values": list(labels)})
    proposal = replace(proposal, why=f"{len(labels)} classes")
    if rare:
        listed = ", ".join(f"“{label}” ({count})" for label, count in list(rare.items())[:5])
        proposal = proposal.doubting(
            f"Rare classes: {listed} have fewer than {FEWEST_OF_A_CLASS} rows, too few to learn from and to judge by. "
            "Group them in the file, or leave these rows out."
        )
    return DraftTarget(proposal, "multiclass", labels, _codes(profile, labels))


def _codes(profile: Profile, labels: Sequence[str]) -> Vector:
    return np.array([*map(float, map(labels.index, profile.texts)), np.nan])[profile.codes]


def _with_missing_rows(target: DraftTarget) -> DraftTarget:
    """The target without `missing`, which it cannot have."""
    proposal = target.proposal
    proposal.options.pop("missing", None)
    if not proposal.profile.missing:
        return target
    return replace(
        target,
        proposal=proposal.doubting(
            f"{proposal.profile.missing:,} rows have no value of it. They can only be left out: train with "
            "--drop-missing-target."
        ),
    )


def nearest_names(name: str, columns: Sequence[str]) -> list[str]:
    """Names of columns that a mistyped target may mean, the nearest first."""
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    inside = [one for one in folded if len(name) > 2 < len(one) and (name.casefold() in one or one in name.casefold())]
    return [folded[one] for one in dict.fromkeys([*near, *inside])][:3]
