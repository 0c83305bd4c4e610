"""Features: the columns of a table, declared once.

Only a feature knows which values are valid. Five things follow from it: `encoder`, the fast way from a value to a
number; `problem`, the sentence that says what is wrong with a value; `parse`, the way from a text cell to a value;
`json_schema`, for the OpenAPI document; `in_words`, what an explanation says about a value. A value has no problem
exactly when the encoder accepts it.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from string import Formatter
from typing import Any, ClassVar, TypeAlias

from tabserve.columns.kinds import check_kinds, fits
from tabserve.errors import InvalidUseCaseError

# names in answers beside those of the record: no column may have one
RESERVED_NAMES = frozenset(
    {"result", "probability", "errors", "lower", "upper", "reasons", "decision_id", "decision_ids", "read_as"}
)
LARGEST_NUMBER = 1e30  # its square, summed over many rows, is still finite
NULL_PROBLEM = "Field may not be null."
_DECIMAL = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)

Encoder: TypeAlias = Callable[[Any], float]


@dataclass(frozen=True, kw_only=True)
class Column(ABC):
    """One column of the encoded records, and the words for its values.

    Parameters
    ----------
    name : str
        The column's name.
    description : str
        What it means, for people who fill in a form.
    monotone : int
        1 when the prediction must never fall as the value rises, -1 when it must never rise, 0 when either may happen.
        Every algorithm of the use case guarantees it; one that cannot is refused.
    label : str
        A short heading for forms and reports; by default, made from the name.
    reason : str
        A true and neutral sentence about a record with a certain value, as a template for `str.format`:
        ``"Loan of {value:,.0f} DM"``. Numbers are floats here. By default, label and value.
    reason_for : mapping
        The whole sentence for values that do not read well in `reason`.

    Attributes
    ----------
    is_ordered : bool
        Whether a larger number in this column means more of something.

    Raises
    ------
    InvalidUseCaseError
        When `reason` is not such a template.
    """

    _DEFAULT_REASON: ClassVar[str] = "{label}: {value}"
    is_ordered: ClassVar[bool] = True

    name: str
    description: str = ""
    monotone: int = 0
    label: str = ""
    reason: str = ""
    reason_for: Mapping[Any, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kinds(self)
        if not self.reason:
            return
        try:
            if {name for _, name, _, _ in Formatter().parse(self.reason)} - {"value", None}:
                raise ValueError
            self.reason.format(value=self._decode(0.0))
        except (LookupError, ValueError, AttributeError):
            raise InvalidUseCaseError(f"The reason of '{self.name}' may hold {{value}} and no other field.") from None

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """Names of the features that the column comes from."""

    @property
    def title(self) -> str:
        """The label; without one, the name as words."""
        return self.label or self.name.replace("_", " ").capitalize()

    def value_of(self, text: str) -> Any:
        """The value that a key of `reason_for` stands for, written as a text."""
        return text

    def in_words(self, code: float) -> str:
        """A sentence about a record.

        Parameters
        ----------
        code : float
            The number in this column of the encoded record.

        Returns
        -------
        str
        """
        if math.isnan(code):
            return f"{self.title}: not given"
        value = self._decode(code)
        if value in self.reason_for:
            return self.reason_for[value]
        return (self.reason or self._DEFAULT_REASON).format(label=self.title, value=value)

    def _decode(self, code: float) -> Any:
        """The value that a number stands for."""
        return code


@dataclass(frozen=True, kw_only=True)
class Feature(Column):
    """One input column; its name is the key in a JSON record.

    Parameters
    ----------
    missing : bool
        Whether a value may be missing (null, an empty cell, or no such key); missing values reach the model as NaN.
    default : object, optional
        The value used for a missing one, except in training.
    protected : bool
        Whether the law protects people from being judged by it; reasons that come from it are marked.
    all_else_equal : bool
        Whether `monotone` is meant with the columns that are derived from this feature held where they are. Without
        it, a feature that others are derived from cannot be monotone: they move with it.

    Raises
    ------
    InvalidUseCaseError
        When the default, or a key of `reason_for`, is not an allowed value.
    """

    missing: bool = False
    default: Any = None
    protected: bool = False
    all_else_equal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.default is not None and (self.missing or self._problem(self.default)):
            raise InvalidUseCaseError(f"The default of '{self.name}' must be one of its values, without missing=True.")
        if any(map(self._problem, self.reason_for)):
            raise InvalidUseCaseError(f"'{self.name}' has a reason for a value that is not allowed.")

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def optional(self) -> bool:
        """Whether a record may leave it out."""
        return self.missing or self.default is not None

    @abstractmethod
    def encoder(self) -> Encoder:
        """A picklable function from a valid value to its number; others raise KeyError, TypeError or ValueError."""

    @abstractmethod
    def _problem(self, value: Any) -> str | None:
        """What is wrong with a value that is not None."""

    @abstractmethod
    def _json_schema(self) -> dict[str, Any]:
        """Type and limits as JSON Schema."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value.

        Parameters
        ----------
        value : object
            Of any type, because clients may send any.

        Returns
        -------
        str or None
            A sentence that does not repeat the value; None when nothing is wrong.
        """
        if value is None:
            return None if self.optional else NULL_PROBLEM
        return self._problem(value)

    def parse(self, text: str) -> Any:
        """The value of a text cell.

        Parameters
        ----------
        text : str
            The whole cell.

        Returns
        -------
        str, int, float or None
            None for an empty cell; the text itself when it cannot be parsed. The value may still have a problem.
        """
        return text if text else None

    def value_of(self, text: str) -> Any:
        return text if self._problem(text) is None else self.parse(text)

    def json_schema(self) -> dict[str, Any]:
        """The feature as JSON Schema (draft 2020-12, as in OpenAPI 3.1)."""
        schema = self._json_schema()
        if self.optional:
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        if self.default is not None:
            schema["default"] = self.default
        return {**schema, "description": self.description or self.title}


@dataclass(frozen=True, kw_only=True)
class Category(Feature):
    """A feature with named values in no particular order.

    Parameters
    ----------
    values : tuple of str
        The allowed values; each is encoded as its position.

    Raises
    ------
    InvalidUseCaseError
        When there is no value, an empty one or a repeated one.
    """

    is_ordered: ClassVar[bool] = False

    values: tuple[str, ...]

    def __post_init__(self) -> None:
        are_texts = fits(self.values, tuple[str, ...]) and all(self.values)
        if not are_texts or len(set(self.values)) < len(self.values) or not self.values:
            raise InvalidUseCaseError(f"The values of '{self.name}' must be distinct texts that are not empty.")
        super().__post_init__()

    def encoder(self) -> Encoder:
        codes: dict[str | None, float] = {value: float(code) for code, value in enumerate(self.values)}
        if self.optional:
            codes[None] = math.nan if self.default is None else codes[self.default]
        return codes.__getitem__

    def _decode(self, code: float) -> Any:
        return self.values[int(code)]

    def _problem(self, value: Any) -> str | None:
        if isinstance(value, str) and value in self.values:
            return None
        return f"Must be one of: {', '.join(self.values)}."

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True, kw_only=True)
class OrderedCategory(Category):
    """A category with values in their natural order, least first; models may treat its codes as numbers."""

    is_ordered: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Number(Feature):
    """A feature measured in numbers.

    Parameters
    ----------
    low, high : float
        The smallest and largest allowed value; by default whatever can be learnt from.

    Raises
    ------
    InvalidUseCaseError
        When a bound is not finite, or `low` is above `high`.
    """

    _DEFAULT_REASON: ClassVar[str] = "{label}: {value:.10g}"

    low: float = -LARGEST_NUMBER
    high: float = LARGEST_NUMBER

    def __post_init__(self) -> None:
        if not fits([self.low, self.high], tuple[float, ...]) or self.low > self.high:
            raise InvalidUseCaseError(f"'{self.name}' needs two finite bounds, the lower one first.")
        super().__post_init__()

    def encoder(self) -> Encoder:
        encode = partial(self._encode, self.low, self.high)
        if not self.optional:
            return encode
        return partial(_encode_optional, encode, math.nan if self.default is None else encode(self.default))

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        # type(...), not isinstance: a bool is an int, but not a number here
        kind = type(value)
        if (kind is int or kind is float) and low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise ValueError

    def _problem(self, value: Any) -> str | None:
        if type(value) not in (int, float) or value != value:
            return "Not a valid number."
        if not self.low <= value <= self.high:
            return f"Must be between {self.low} and {self.high}."
        return None

    def parse(self, text: str) -> Any:
        if not _DECIMAL.fullmatch(text):
            return super().parse(text)
        return int(text) if _WHOLE.fullmatch(text) else float(text)

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, kw_only=True)
class Integer(Number):
    """A feature measured in whole numbers; 35.0 is one, as in JSON Schema."""

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        kind = type(value)
        if (kind is int or (kind is float and value.is_integer())) and low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise ValueError

    def _problem(self, value: Any) -> str | None:
        if type(value) not in (int, float) or (type(value) is float and not value.is_integer()):
            return "Not a valid integer."
        return super()._problem(value)

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, kw_only=True)
class CyclicInteger(Integer):
    """Whole numbers on a circle, such as the hours of a day: `high` means the same as `low`."""

    is_ordered: ClassVar[bool] = False

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        number = Integer._encode(low, high, value)
        return low if number == high else number


def _encode_optional(encode: Encoder, default: float, value: Any) -> float:
    return default if value is None else encode(value)
