"""Boolean: yes or no."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from tabserve.columns.features import Encoder, Feature, encode_optional
from tabserve.errors import InvalidUseCaseError

_LOGICAL: Mapping[str, bool] = {"false": False, "true": True}
_WORDS: Mapping[str, bool] = {
    **_LOGICAL,
    **dict.fromkeys(("no", "0", "f", "n"), False),
    **dict.fromkeys(("yes", "1", "t", "y"), True),
}


@dataclass(frozen=True, kw_only=True)
class Boolean(Feature):
    """A feature that is true or false; in files also yes or no, 1 or 0, t or f, y or n, in upper or lower case.

    Parameters
    ----------
    words : tuple of (str, str)
        The words of the table for false and for true, such as ``("nein", "ja")``. Explanations use them, too. Where
        one of them means the opposite elsewhere, as in ``("1", "2")``, only these two and true and false are read.

    Raises
    ------
    InvalidUseCaseError
        When the two words are the same, or one is empty.
    """

    kind = "boolean"

    words: tuple[str, str] = ("no", "yes")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(map(str.strip, self.words)) or len(self._values) < 2:
            raise InvalidUseCaseError(f"'{self.name}' needs two words, the one for false first.")

    @property
    def _values(self) -> dict[str, bool]:
        """The value of each of the two words."""
        return {word.strip().casefold(): bool(place) for place, word in enumerate(self.words)}

    @property
    def is_ordered(self) -> bool:
        return True

    @property
    def allowed(self) -> str:
        return " or ".join(self.words)

    def encoder(self) -> Encoder:
        if not self.optional:
            return _encode
        return partial(encode_optional, _encode, math.nan if self.default is None else float(self.default))

    def word(self, value: Any) -> Any:
        """The word of the table for true or false; any other value as it is."""
        return self.words[value] if value is True or value is False else value

    def _decode(self, code: float) -> Any:
        return bool(code)

    def _in_short(self, value: Any) -> str:
        return self.words[bool(value)]

    def _problem(self, value: Any) -> str | None:
        return None if value is True or value is False else "Must be true or false."

    def _parse(self, text: str, decimal: str) -> Any:
        word, own = text.casefold(), self._values
        is_opposite = any(_WORDS.get(one, value) is not value for one, value in own.items())
        read = {**(_LOGICAL if is_opposite else _WORDS), **own}
        return read.get(word, read.get(word.removesuffix(".0"), text))

    def _advice(self, value: Any) -> str:
        is_word = isinstance(value, str) and self.words == ("no", "yes")
        return "For other words, declare them, that for false first: words = ['nein', 'ja']." if is_word else ""

    def _names_value(self, marker: str) -> bool:
        return marker.casefold() in self._values

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


def _encode(value: Any) -> float:
    # `is`, because 1 equals True, but is no boolean in JSON
    if value is True:
        return 1.0
    if value is False:
        return 0.0
    raise ValueError
