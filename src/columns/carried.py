"""Columns that are carried along: models never see them."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tabserve.aliases import Mask, Vector
from tabserve.columns.arrays import given_in, read_flat, stored
from tabserve.columns.features import LONGEST_VALUE, Codes, Encoder, Feature, has_halves
from tabserve.columns.plain import stored_texts

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Id(Feature):
    """What tells a record from others: a text or a whole number, which answers repeat."""

    kind = "id"
    in_matrix: ClassVar[bool] = False

    missing: bool = True

    @property
    def is_ordered(self) -> bool:
        return False

    @property
    def allowed(self) -> str:
        return "a text or a whole number"

    def encoder(self) -> Encoder:
        return self._no_number

    def _no_number(self, value: Any) -> float:
        if self.problem(value):
            raise ValueError
        return math.nan

    def _problem(self, value: Any) -> str | None:
        if isinstance(value, str):
            is_valid = len(value) <= LONGEST_VALUE and not has_halves(value)
        else:
            is_whole = type(value) is int or (type(value) is float and value.is_integer())
            is_valid = is_whole and -LARGEST_ID <= value <= LARGEST_ID
        return None if is_valid else f"Must be a text of at most {LONGEST_VALUE} characters or a whole number."

    def _from_cell(self, value: Any) -> Any:
        if type(value) is float and value.is_integer() and abs(value) <= LARGEST_ID:
            return int(value)  # workbooks keep all numbers as floats
        return value if type(value) is int else super()._from_cell(value)

    def encode_cells(self, array: "pa.Array", decimal: str = ".") -> Codes:
        if not self.optional:
            return super().encode_cells(array, decimal)
        codes, is_valid = read_flat(array, _valid_ids)
        return self._encode_others(array, decimal, (codes, np.zeros(len(array), np.bool_)), is_valid)

    def _json_schema(self) -> dict[str, Any]:
        return {
            "type": ["string", "integer"],
            "maxLength": LONGEST_VALUE,
            "minimum": -LARGEST_ID,
            "maximum": LARGEST_ID,
        }


@dataclass(frozen=True, kw_only=True)
class Ignored(Feature):
    """A column that tables may have and nothing uses; any value is valid."""

    kind = "ignore"
    in_matrix: ClassVar[bool] = False

    missing: bool = True

    @property
    def is_ordered(self) -> bool:
        return False

    @property
    def optional(self) -> bool:
        return True

    @property
    def allowed(self) -> str:
        return "anything"

    def encoder(self) -> Encoder:
        return _anything

    def _problem(self, value: Any) -> str | None:
        return None

    def _from_cell(self, value: Any) -> Any:
        return value if isinstance(value, int | float) else super()._from_cell(value)

    def encode_cells(self, array: "pa.Array", decimal: str = ".") -> Codes:
        return np.full(len(array), math.nan), np.zeros(len(array), np.bool_)

    def _json_schema(self) -> dict[str, Any]:
        return {}


def _anything(value: Any) -> float:
    return math.nan


def _valid_ids(array: "pa.Array") -> tuple[Vector, Mask]:
    """NaN for each cell, and which cells are surely ids; in UTF-8 no text has more characters than bytes."""
    import pyarrow as pa

    are_valid = np.zeros(len(array), np.bool_)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        bounds, _ = stored_texts(array)
        are_valid = given_in(array) & (np.diff(bounds) <= LONGEST_VALUE)
    elif pa.types.is_signed_integer(array.type):
        are_valid = given_in(array) & (stored(array) >= -LARGEST_ID)
    return np.full(len(array), math.nan), are_valid
