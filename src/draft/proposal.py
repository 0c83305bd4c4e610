"""What is proposed for a column."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from tabserve.draft.profile import Profile


@dataclass(frozen=True)
class Proposal:
    """What is proposed for a column, and why.

    Parameters
    ----------
    profile : Profile
        Its cells, without those that stand for missing.
    kind : str
        As in a declaration.
    why : str
        In a few words.
    options : mapping
        What the declaration says of the column besides its kind.
    seen : str
        The values in the data in short, such as "18 to 75".
    values : ndarray, shape (n_texts,), optional
        The texts as numbers or as moments.
    doubts : tuple of str
        What a person must decide or should know, one sentence or more each.
    is_secret : bool
        Whether its values may tell who somebody is: they are shown in outline only.
    """

    profile: Profile
    kind: str
    why: str
    options: dict[str, Any] = field(default_factory=dict)
    seen: str = ""
    values: npt.NDArray[Any] | None = None
    doubts: tuple[str, ...] = ()
    is_secret: bool = False

    @property
    def name(self) -> str:
        """The column's name."""
        return self.profile.name

    def doubting(self, *doubts: str) -> "Proposal":
        """The same with further doubts."""
        return replace(self, doubts=(*self.doubts, *doubts))

    def ignored(self, doubt: str) -> "Proposal":
        """The column left out, for a reason that a person must look at."""
        return replace(self, kind="ignore", why="left out: see the doubts", options={}, doubts=(*self.doubts, doubt))


def cut(text: str, most: int = 24) -> str:
    """A text in at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
