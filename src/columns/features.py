"""Features: the columns of a table, declared once.

Only a feature knows which values are valid. Six things follow from it: `encoder`, the fast way from a value to a
number; `problem`, the sentence that says what is wrong with a value; `parse` and `from_cell`, the ways from a cell of a
file to a value; `json_schema`, for the OpenAPI document; `in_words`, what an explanation says about a value. A value
has no problem exactly when the encoder accepts it.

Categories and numbers are here; the other kinds have modules of their own, and `catalogue` lists all.
"""

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from functools import cached_property, partial
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Vector
from tabserve.columns.arrays import EXACT, cells_at, distinct_cells, take_cells
from tabserve.columns.cells import cell_text
from tabserve.columns.kinds import check_kinds, fits
from tabserve.columns.numerals import Notation, notation_advice
from tabserve.columns.plain import plain_numbers
from tabserve.errors import InvalidUseCaseError

if TYPE_CHECKING:
    import pyarrow as pa

# names in answers beside those of the record: no column may have one
RESERVED_NAMES = frozenset(
    {"result", "probability", "outcome", "errors", "lower", "upper", "reasons", "read_as"}
    | {"ids", "decision_id", "decision_ids"}
)
LARGEST_NUMBER = 1e30  # its square, summed over many rows, is still finite
NULL_PROBLEM = "Field may not be null."
EMPTY_PROBLEM = f"{NULL_PROBLEM} If the cell may be empty, declare missing = true."
LONGEST_VALUE = 200  # characters of a category's value that was not declared
MOST_LISTED = 20  # values of a category that a sentence lists
LARGEST_ENUM = 100  # values of a category that a JSON schema lists
BLANKS_AROUND = "There is a blank before or after the text: remove it."
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")  # where a word begins in a name such as MonthlyIncome
_HALVES = re.compile("[\ud800-\udfff]")  # of characters, which no file and no answer can hold
# a whole number that was written with decimals; three zeros may be a group of digits
_WHOLE = re.compile(r"(-?[0-9]{1,40})[.,](?!000$)0{1,40}", re.ASCII)

# a number that is written the same way in every notation with a decimal point
_SIMPLE = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)

Encoder: TypeAlias = Callable[[Any], float]
Codes: TypeAlias = tuple[Vector, Mask]  # the numbers of values, and which values are at fault


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
    kind : str
        What declarations and manifests call columns of this class.
    is_ordered : bool
        Whether a larger number in this column means more of something.

    Raises
    ------
    InvalidUseCaseError
        When `reason` is not such a template.
    """

    kind: ClassVar[str]

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
    def is_ordered(self) -> bool:
        return True

    @property
    def title(self) -> str:
        """The label; without one, the name as words: CheckingBalance and checking_balance are "Checking balance"."""
        return self.label or _as_words(self.name)

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
        return self.reason.format(value=value) if self.reason else f"{self.title}: {self._in_short(value)}"

    def _decode(self, code: float) -> Any:
        """The value that a number stands for."""
        return code

    def _in_short(self, value: Any) -> str:
        """A value as people write it."""
        return str(value)


@dataclass(frozen=True, kw_only=True)
class Feature(Column):
    """One input column; its name is the key in a JSON record.

    Parameters
    ----------
    missing : bool
        Whether a value may be missing (null, an empty cell, or no such key); missing values reach the model as NaN.
    markers : tuple of str
        Texts that mean a missing value in the cells of files, such as "?" and "NA"; case matters.
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
        When the default, or a key of `reason_for`, is not an allowed value, or a marker is one.
    """

    in_matrix: ClassVar[bool] = True  # whether a model can see a column of this kind

    missing: bool = False
    markers: tuple[str, ...] = ()
    default: Any = None
    protected: bool = False
    all_else_equal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.default is not None and (self.missing or self._problem(self.default)):
            raise InvalidUseCaseError(f"The default of '{self.name}' must be one of its values, without missing=True.")
        if any(map(self._problem, self.reason_for)):
            raise InvalidUseCaseError(f"'{self.name}' has a reason for a value that is not allowed.")
        if not all(map(str.strip, self.markers)):
            raise InvalidUseCaseError(f"'{self.name}': an empty cell needs no marker, it is always missing.")
        if marker := next(filter(self._names_value, self.markers), None):
            raise InvalidUseCaseError(f"'{self.name}' has the marker {marker!r}, which is one of its values.")

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

    def cell_problem(self, value: Any) -> str | None:
        """What is wrong with the value of a file's cell: its problem, and what to declare or to write instead.

        Parameters
        ----------
        value : object
            From `parse` or `from_cell`.

        Returns
        -------
        str or None
            One or two sentences that do not repeat the value.
        """
        if value is None:
            return None if self.optional else EMPTY_PROBLEM
        problem = self._problem(value)
        return problem and " ".join(filter(None, (problem, self._advice(value))))

    def _advice(self, value: Any) -> str:
        """What to declare, or to write in a file instead of a value with a problem."""
        return ""

    def parse(self, text: str, decimal: str = ".") -> Any:
        """The value of a text cell.

        Parameters
        ----------
        text : str
            The whole cell; blanks around it do not count.
        decimal : str
            The decimal sign of the file, a point or a comma.

        Returns
        -------
        str, int, float, bool or None
            None for an empty cell and for a marker; the text itself when it cannot be parsed. The value may still have
            a problem.
        """
        text = text.strip()
        return self._parse(text, decimal) if text and text not in self.markers else None

    def _parse(self, text: str, decimal: str) -> Any:
        """The value of a text cell that is neither empty nor a marker."""
        return text

    def from_cell(self, value: Any, decimal: str = ".") -> Any:
        """The value of a typed cell.

        Parameters
        ----------
        value : str, int, float, bool, Decimal, date, datetime or None
            The cell of a workbook, a Parquet file or a database; NaN is an empty one.
        decimal : str
            The decimal sign of numbers that are kept as text.

        Returns
        -------
        str, int, float, bool or None
            As for `parse`.
        """
        if isinstance(value, str):
            return self.parse(value, decimal)
        if value is None or value != value or (self.markers and cell_text(value) in self.markers):
            return None
        return self._from_cell(value)

    def from_cells(self, cells: Sequence[Any], decimal: str = ".") -> list[Any]:
        """What `from_cell` gives for each of some cells."""
        return [self.from_cell(cell, decimal) for cell in cells]

    def _from_cell(self, value: Any) -> Any:
        """The value of a typed cell that is neither a text nor missing."""
        return self._parse(cell_text(value), ".")

    def encode_values(self, values: Sequence[Any]) -> Codes:
        """The numbers of values.

        Parameters
        ----------
        values : sequence
            n_values of any type, because clients may send any; None is a missing one.

        Returns
        -------
        codes : ndarray of float64, shape (n_values,)
            What `encoder` gives; NaN for a value at fault.
        faulty : ndarray of bool, shape (n_values,)
            Which values have a problem.
        """
        encode = self.encoder()
        faulty = np.zeros(len(values), np.bool_)
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            return np.fromiter(map(encode, values), np.float64, len(values)), faulty
        codes = np.full(len(values), math.nan)
        for place, value in enumerate(values):
            try:
                codes[place] = encode(value)
            except (AttributeError, KeyError, TypeError, ValueError):
                faulty[place] = True
        return codes, faulty

    def encode_cells(self, array: "pa.Array", decimal: str = ".") -> Codes:
        """The numbers of a column's cells, as of what `from_cell` gives for each.

        Parameters
        ----------
        array : pyarrow.Array
            n_cells raw cells: of texts, of values, or of several kinds.
        decimal : str
            The decimal sign of numbers that are kept as text.

        Returns
        -------
        codes : ndarray of float64, shape (n_cells,)
            NaN for a cell at fault.
        faulty : ndarray of bool, shape (n_cells,)
            Which cells hold a value with a problem.
        """
        values, places = self._distinct(array, decimal)
        codes, faulty = self.encode_values(values)
        return codes[places], faulty[places] if faulty.any() else np.zeros(len(places), np.bool_)

    def typed_cells(self, array: "pa.Array", decimal: str = ".") -> list[Any]:
        """What `from_cell` gives for each of a column's n_cells raw cells."""
        values, places = self._distinct(array, decimal)
        return [values[place] for place in places.tolist()]

    def typed_array(self, array: "pa.Array", decimal: str = ".") -> "pa.Array":
        """The values of a column's cells, as `cell_array` keeps them.

        Parameters
        ----------
        array : pyarrow.Array
            n_cells raw cells.
        decimal : str
            The decimal sign of numbers that are kept as text.

        Returns
        -------
        pyarrow.Array
            What `typed_cells` gives, of one type where all cells are values of the column: whole numbers int64, others
            float64, truth values bool, and texts a dictionary of strings.
        """
        return take_cells(*self._distinct(array, decimal))

    def _distinct(self, array: "pa.Array", decimal: str) -> tuple[list[Any], npt.NDArray[np.int64]]:
        """The values of the distinct cells of a column, and which of them each cell has."""
        cells, places = distinct_cells(array)
        return self.from_cells(cells, decimal), places

    def _encode_others(self, array: "pa.Array", decimal: str, codes: Codes, is_done: Mask) -> Codes:
        """Codes of cells, of which some are done, with those of the others, each distinct one read by itself."""
        others = np.flatnonzero(~is_done)
        if len(others):
            for done, read in zip(codes, Feature.encode_cells(self, cells_at(array, others), decimal), strict=True):
                done[others] = read
        return codes

    def with_markers(self, markers: Iterable[str]) -> Self:
        """The feature with more texts that mean a missing value, except those that are values of it."""
        more = (marker for marker in markers if marker not in self.markers and not self._names_value(marker))
        return replace(self, markers=(*self.markers, *more))

    def _names_value(self, marker: str) -> bool:
        """Whether a text is the name of a value, so that it cannot mean a missing one."""
        return False

    def learnt(self, values: Iterable[Any]) -> "Feature":
        """The feature with what it learns from the values of the training part; most kinds learn nothing."""
        return self

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The valid values in a few words."""

    def value_of(self, text: str) -> Any:
        return text if self._problem(text) is None else self.parse(text)

    def json_schema(self) -> dict[str, Any]:
        """The feature as JSON Schema (draft 2020-12, as in OpenAPI 3.1)."""
        schema = self._json_schema()
        if self.optional and "type" in schema:
            kinds = schema["type"]
            schema["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        if self.default is not None:
            schema["default"] = self.default
        return {**schema, "description": sentences(self.description or self.title, self._remark())}

    def _remark(self) -> str:
        """What people must know about the values, beside description and schema."""
        return ""


def _as_words(name: str) -> str:
    """A name as words; those that are all capitals stay so."""
    words = _CAMEL.sub(" ", name).replace("_", " ").split(" ")
    plain = " ".join(word if word.isupper() else word.lower() for word in words)
    return plain[:1].upper() + plain[1:]


def sentences(text: str, remark: str) -> str:
    """A text and a remark about it, of which the text may be no sentence."""
    ending = "" if text.endswith((".", "?", "!")) else "."
    return f"{text}{ending} {remark}" if remark else text


@dataclass(frozen=True, kw_only=True)
class Category(Feature):
    """A feature with named values in no particular order.

    Parameters
    ----------
    values : tuple of str
        The known values; each is encoded as its position. Without any, they are learnt from the training part.
    other : str
        The name under which every value that is not known is treated; it may be one of `values`. Without it, only
        known values are valid.

    Raises
    ------
    InvalidUseCaseError
        When a value is empty or repeated, or when there is none and no `other`.
    """

    kind = "category"

    values: tuple[str, ...] = ()
    other: str = ""

    def __post_init__(self) -> None:
        are_texts = fits(self.values, tuple[str, ...]) and all(self.values)
        if not are_texts or len(set(self.values)) < len(self.values):
            raise InvalidUseCaseError(f"The values of '{self.name}' must be distinct texts that are not empty.")
        if not self.values and not self.other:
            raise InvalidUseCaseError(
                f"'{self.name}' needs values, or the name of an `other` under which values are treated that training "
                "does not see."
            )
        super().__post_init__()

    @property
    def is_ordered(self) -> bool:
        return False

    @property
    def labels(self) -> tuple[str, ...]:
        """What the codes stand for: the values, then `other` unless it is one of them."""
        return (*self.values, self.other) if self.other and self.other not in self.values else tuple(self.values)

    @property
    def allowed(self) -> str:
        listed = _listed(self.values)
        return f"any text; known are: {listed or 'those of the training part'}" if self.other else listed

    def learnt(self, values: Iterable[Any]) -> "Feature":
        """Without values of its own, it takes the distinct ones that are given, in the order of the alphabet."""
        return self if self.values else replace(self, values=tuple(sorted({value for value in values if value})))

    def encoder(self) -> Encoder:
        codes = _Codes({value: float(code) for code, value in enumerate(self.labels)})
        if self.other:
            codes.other = codes[self.other]
        if self.optional:
            codes[None] = math.nan if self.default is None else codes[self.default]
        return codes.__getitem__

    def _decode(self, code: float) -> Any:
        return self.labels[int(code)]

    def _problem(self, value: Any) -> str | None:
        if isinstance(value, str) and (value in self.values or (self.other and is_short(value))):
            return None
        if self.other:
            has_blanks = isinstance(value, str) and value.strip() != value
            return BLANKS_AROUND if has_blanks else f"Must be a text of 1 to {LONGEST_VALUE} characters."
        return " ".join(filter(None, (f"Must be one of: {self._listed_for(value)}.", self._hint(value))))

    def _listed_for(self, value: Any) -> str:
        """The known values, those first that are spelled nearly like a wrong one where not all are listed."""
        if len(self.values) <= MOST_LISTED or not isinstance(value, str) or len(value) > LONGEST_VALUE:
            return _listed(self.values)
        return _listed(sorted(self.values, key=lambda known: _spelling(known) != _spelling(value)))

    def _hint(self, value: Any) -> str:
        """Why a wrong value may look right."""
        if isinstance(value, str) and value.strip() != value and value.strip() in self.values:
            return BLANKS_AROUND
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not (text := _short(value)):
            return ""
        if text != value and text in self.values:
            return "Send it as a text, in quotes."
        padded = [known for known in self.values if known != text and known.lstrip("0") == text.lstrip("0")]
        if text.isdigit() and padded:
            return f"A leading zero may have been lost: {_listed(padded)}."
        return ""

    def _parse(self, text: str, decimal: str) -> Any:
        if text in self._known:
            return text
        if (whole := _WHOLE.fullmatch(text)) and whole[1] in self._known:
            return whole[1]  # as pandas writes whole numbers of a column with gaps
        composed = unicodedata.normalize("NFC", text)
        if composed in self._known:
            return composed  # as other systems write letters with accents
        return self._with_zeros(text) if self.other else text

    def _with_zeros(self, text: str) -> str:
        """A code with the leading zeros that spreadsheets lose, where all known codes have one width."""
        padded = text.zfill(self._width) if text.isdecimal() and text.isascii() else text
        return padded if padded in self._known else text

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.values)

    def __getstate__(self) -> dict[str, Any]:
        """What was declared, without what was made of it for speed: a model's bytes do not depend on its use."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def _width(self) -> int:
        """The width of the values when all are digits, some with a leading zero, and of one width; otherwise 0."""
        widths = {len(value) if value.isdecimal() else 0 for value in self.values}
        is_padded = len(widths) == 1 and any(value.startswith("0") for value in self.values)
        return widths.pop() if is_padded else 0

    def _from_cell(self, value: Any) -> Any:
        spellings = [cell_text(value)]
        if isinstance(value, bool):
            spellings += [known for known in self.values if known.casefold() == str(value).casefold()]
        elif isinstance(value, int | float):
            spellings.append(_short(value) + ".0")
        return next((text for text in spellings if text in self._known), self._parse(spellings[0], "."))

    def _names_value(self, marker: str) -> bool:
        return marker in self.values

    def _json_schema(self) -> dict[str, Any]:
        if self.other:
            blank_free = r"^\S([\s\S]*\S)?$"
            return {"type": "string", "minLength": 1, "maxLength": LONGEST_VALUE, "pattern": blank_free}
        if len(self.values) > LARGEST_ENUM:
            return {"type": "string", "minLength": 1, "maxLength": max(map(len, self.values))}
        return {"type": "string", "enum": list(self.values)}

    def _remark(self) -> str:
        if self.other:
            known = f"Known values: {_listed(self.values)}. " if self.values else ""
            return f"{known}Any other is treated as {self.other}."
        return f"One of {len(self.values):,} values: {_listed(self.values)}." if len(self.values) > LARGEST_ENUM else ""


class _Codes(dict[Any, float]):
    """The codes of a category's values; a text that is not known has the code of `other`."""

    other: float | None = None

    def __missing__(self, value: Any) -> float:
        if self.other is None or not is_short(value):
            raise KeyError
        return self.other


def has_halves(text: str) -> bool:
    """Whether a text holds half a character, which no file and no answer can hold."""
    return _HALVES.search(text) is not None


def is_short(value: Any) -> bool:
    """Whether a value is a text that may stand for a category that was not declared."""
    return (
        isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE and value.strip() == value and not has_halves(value)
    )


def _listed(values: Iterable[str]) -> str:
    values = tuple(values)
    more = len(values) - MOST_LISTED
    return ", ".join(values[:MOST_LISTED]) + (f", … and {more:,} more" if more > 0 else "")


def _spelling(text: str) -> str:
    """A text without what people confuse: case, blanks and punctuation."""
    return "".join(filter(str.isalnum, text.casefold()))


def _short(value: Any) -> str:
    """A value as text; empty for one that is too long to be spelled like a known one."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return ""
    text = cell_text(value)
    return text if len(text) <= LONGEST_VALUE else ""


@dataclass(frozen=True, kw_only=True)
class OrderedCategory(Category):
    """A category with values in their natural order, least first; models may treat its codes as numbers."""

    kind = "ordered"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.values or self.labels != tuple(self.values):
            raise InvalidUseCaseError(f"'{self.name}' needs values in their order, with its `other` among them.")

    @property
    def is_ordered(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Number(Feature):
    """A feature measured in numbers.

    Parameters
    ----------
    low, high : float
        The smallest and largest allowed value; by default whatever can be learnt from.
    unit : str
        What it is measured in; cells of files may have it before or after the number.
    percent : bool
        Whether cells of files may hold percentages: "5 %" is 0.05.
    thousands : bool
        Whether cells of files may group digits by three: "1,389" is 1389.

    Raises
    ------
    InvalidUseCaseError
        When a bound is not finite, or `low` is above `high`.
    """

    kind = "number"
    _problem_of_kind: ClassVar[str] = "Not a valid number."
    _takes_whole: ClassVar[bool] = False  # whether all its values are whole numbers

    low: float = -LARGEST_NUMBER
    high: float = LARGEST_NUMBER
    unit: str = ""
    percent: bool = False
    thousands: bool = False

    def __post_init__(self) -> None:
        if not fits([self.low, self.high], tuple[float, ...]) or self.low > self.high:
            raise InvalidUseCaseError(f"'{self.name}' needs two finite bounds, the lower one first.")
        super().__post_init__()

    @property
    def allowed(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if (self.low, self.high) == (-LARGEST_NUMBER, LARGEST_NUMBER):
            return f"any number{unit and ' of'}{unit}"
        return f"{self.low:,.10g} to {self.high:,.10g}{unit}"

    def encoder(self) -> Encoder:
        encode = partial(self._encode, self.low, self.high)
        if not self.optional:
            return encode
        return partial(encode_optional, encode, math.nan if self.default is None else encode(self.default))

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        # type(...), not isinstance: a bool is an int, but not a number here
        kind = type(value)
        if (kind is int or kind is float) and low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise ValueError

    def encode_values(self, values: "Sequence[Any] | npt.NDArray[Any]") -> Codes:
        """As for every feature; those of an array of int64 or float64, in which NaN is missing, at once."""
        if not isinstance(values, np.ndarray):
            return super().encode_values(values)
        if values.dtype == np.int64 and np.any((values > EXACT) | (values < -EXACT)):
            return super().encode_values(values.tolist())
        numbers = values.astype(np.float64)
        codes, faulty = self._encode_numbers(numbers)
        if self.optional and (is_missing := np.isnan(numbers)).any():
            codes[is_missing] = self.encoder()(None)
            faulty[is_missing] = False
        return codes, faulty

    def encode_cells(self, array: "pa.Array", decimal: str = ".") -> Codes:
        numbers, is_plain = self._plain_numbers(array, decimal)
        return self._encode_others(array, decimal, self._encode_numbers(numbers), is_plain)

    def _encode_numbers(self, numbers: Vector) -> Codes:
        """What `encode_values` gives for floats."""
        is_valid = (self.low <= numbers) & (numbers <= self.high)
        return np.where(is_valid, numbers, math.nan), ~is_valid

    def _plain_numbers(self, array: "pa.Array", decimal: str) -> tuple[Vector, Mask]:
        """Numbers that are the values of cells however they are written, and which cells hold one."""
        signs = f"0123456789-{decimal}"
        is_in_unit = bool(self.unit) and not self.unit.casefold().strip(signs)
        is_in_marker = decimal == "," and any(decimal in marker for marker in self.markers)
        numbers, is_plain = plain_numbers(array, "" if is_in_unit or is_in_marker else decimal)
        for marker in self.markers:
            if (marked := Notation().number(marker)) is not None:
                is_plain &= numbers != marked
        return numbers, is_plain

    def typed_array(self, array: "pa.Array", decimal: str = ".") -> "pa.Array":
        import pyarrow as pa

        numbers, is_plain = self._plain_numbers(array, decimal)
        others = np.flatnonzero(~is_plain)
        values, places = self._distinct(cells_at(array, others), decimal)
        if not all(value is None or (type(value) in (int, float) and abs(value) <= EXACT) for value in values):
            return super().typed_array(array, decimal)
        numbers = numbers.copy()
        numbers[others] = np.array([math.nan if value is None else value for value in values], np.float64)[places]
        typed = pa.array(numbers, from_pandas=True)
        is_whole = self._takes_whole and bool(np.all((numbers == np.rint(numbers)) | np.isnan(numbers)))
        return typed.cast(pa.int64()) if is_whole else typed

    def _in_short(self, value: Any) -> str:
        if self.percent:
            return f"{100 * value:.10g} %"
        return f"{value:.10g} {self.unit}" if self.unit else f"{value:.10g}"

    def _problem(self, value: Any) -> str | None:
        if type(value) not in (int, float) or value != value:
            return self._problem_of_kind
        if not self.low <= value <= self.high:
            return f"Must be between {self.low} and {self.high}."
        return None

    def _advice(self, value: Any) -> str:
        return notation_advice(value, is_required=not self.missing) if isinstance(value, str) else ""

    def _parse(self, text: str, decimal: str) -> Any:
        number = self._notation(decimal).number(text)
        return text if number is None else self._unless_marker(number)

    def from_cells(self, cells: Sequence[Any], decimal: str = ".") -> list[Any]:
        if self.markers or self.unit or decimal != ".":
            return super().from_cells(cells, decimal)
        return [
            self.from_cell(cell) if type(cell) is not str or not (found := _SIMPLE.fullmatch(cell))
            else float(cell) if found[1] else int(cell)
            for cell in cells
        ]  # fmt: skip

    def _unless_marker(self, number: float) -> float | None:
        """The number; None for one that a marker stands for, however it is written: "-999" is also -999.0."""
        notation = Notation()
        return None if self.markers and number in map(notation.number, self.markers) else number

    def _notation(self, decimal: str) -> Notation:
        return Notation(decimal, self.unit, percent=self.percent, thousands=self.thousands)

    def _from_cell(self, value: Any) -> Any:
        if isinstance(value, Decimal):
            value = int(value) if value == value.to_integral_value() else float(value)
        if isinstance(value, bool):
            return value
        return self._unless_marker(value) if isinstance(value, int | float) else cell_text(value)

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.low, "maximum": self.high}

    def _remark(self) -> str:
        return "A share: 0.05 is 5 %." if self.percent else f"In {self.unit}." if self.unit else ""


@dataclass(frozen=True, kw_only=True)
class Integer(Number):
    """A feature measured in whole numbers; 35.0 is one, as in JSON Schema."""

    kind = "integer"
    _problem_of_kind = "Not a valid integer."
    _takes_whole = True

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        kind = type(value)
        if (kind is int or (kind is float and value.is_integer())) and low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise ValueError

    def _encode_numbers(self, numbers: Vector) -> Codes:
        codes, faulty = super()._encode_numbers(numbers)
        faulty |= codes != np.rint(codes)
        codes[faulty] = math.nan
        return codes, faulty

    def _problem(self, value: Any) -> str | None:
        if type(value) is float and not value.is_integer():
            return self._problem_of_kind
        return super()._problem(value)

    def _advice(self, value: Any) -> str:
        has_three_decimals = type(value) is float and (value * 1000).is_integer() and not (value * 100).is_integer()
        if has_three_decimals:
            return "If the point separates thousands, declare decimal = ',' in the dialect, or write 1234 for 1.234."
        return super()._advice(value)

    def _json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, kw_only=True)
class CyclicInteger(Integer):
    """Whole numbers on a circle, such as the hours of a day: `high` means the same as `low`."""

    kind = "cyclic"

    @property
    def is_ordered(self) -> bool:
        return False

    @staticmethod
    def _encode(low: float, high: float, value: Any) -> float:
        number = Integer._encode(low, high, value)
        return low if number == high else number

    def _encode_numbers(self, numbers: Vector) -> Codes:
        codes, faulty = super()._encode_numbers(numbers)
        codes[codes == self.high] = self.low
        return codes, faulty


def encode_optional(encode: Encoder, default: float, value: Any) -> float:
    """The default for a missing value, else what `encode` gives."""
    return default if value is None else encode(value)
