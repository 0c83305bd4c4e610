"""Texts: short free text as words and letters, counted in a fixed number of columns."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from tabserve.aliases import Matrix
from tabserve.columns.features import Encoder, Feature, encode_optional, has_halves
from tabserve.errors import InvalidUseCaseError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BUCKETS = 4096
_WORD = re.compile(r"\w+")
_LETTERS = 3  # in a row, that are counted together


@dataclass(frozen=True, kw_only=True)
class Text(Feature):
    """Short free text, such as a name, a title or a remark.

    Models see its length and, for each bucket, how many of its words and of its groups of three letters fall into the
    bucket by their hash (CRC-32), so that no list of words is kept.

    Parameters
    ----------
    longest : int
        The largest number of characters.
    buckets : int
        How many columns words and letters are counted in.

    Raises
    ------
    InvalidUseCaseError
        When `longest` or `buckets` is below 1, or there are too many buckets.
    """

    kind = "text"

    longest: int = 1000
    buckets: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 1 or not 1 <= self.buckets <= MOST_BUCKETS:
            raise InvalidUseCaseError(f"'{self.name}' needs a positive `longest` and 1 to {MOST_BUCKETS:,} buckets.")

    @property
    def is_ordered(self) -> bool:
        return False

    @property
    def allowed(self) -> str:
        return f"a text of at most {self.longest:,} characters"

    def encoder(self) -> Encoder:
        encode = partial(_length, self.longest)
        if not self.optional:
            return encode
        return partial(encode_optional, encode, math.nan if self.default is None else encode(self.default))

    def counter(self) -> Callable[[Iterable[Any]], Matrix]:
        """A picklable function from n_rows valid values to the counts in their buckets, shape (n_rows, buckets)."""
        return partial(_counts, self.buckets, self.default or "")

    def count_cells(self, array: "pa.Array", decimal: str = ".") -> Matrix:
        """What `counter` gives for the values of n_cells raw cells; a cell at fault counts as a missing one."""
        values, places = self._distinct(array, decimal)
        return self.count_values(values)[places]

    def count_values(self, values: Sequence[Any]) -> Matrix:
        """What `counter` gives for n_values values of any type; one at fault counts as a missing one."""
        _, faulty = self.encode_values(values)
        return self.counter()(None if bad else value for value, bad in zip(values, faulty, strict=True))

    def _in_short(self, value: Any) -> str:
        return f"{value:.0f} characters"

    def _problem(self, value: Any) -> str | None:
        if isinstance(value, str) and 0 < len(value) <= self.longest and not has_halves(value):
            return None
        return f"Must be a text of 1 to {self.longest} characters."

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


def _length(longest: int, value: Any) -> float:
    if isinstance(value, str) and 0 < len(value) <= longest and not has_halves(value):
        return float(len(value))
    raise ValueError


def _counts(buckets: int, default: str, values: Iterable[Any]) -> Matrix:
    places = [_places(buckets, default if value is None else value) for value in values]
    counts = np.zeros((len(places), buckets))
    for row, of_text in zip(counts, places, strict=True):
        np.add.at(row, of_text, 1.0)
    return counts


def _places(buckets: int, text: str) -> list[int]:
    """The buckets of a text's words and letters, with repetitions."""
    return [place for word in _WORD.findall(text.casefold()) for place in _places_of_word(buckets, word)]


@lru_cache(maxsize=50_000)
def _places_of_word(buckets: int, word: str) -> tuple[int, ...]:
    padded = f" {word} "  # so that beginnings and ends of words differ from their middles
    letters = (padded[start : start + _LETTERS] for start in range(len(padded) - _LETTERS + 1))
    return tuple(crc32(part.encode()) % buckets for part in dict.fromkeys((padded, *letters)))
