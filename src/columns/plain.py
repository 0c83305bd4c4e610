"""Plain numbers: those in an array of raw cells that can be read all at once, without a Python object for each.

Plain is a number of which every way to read it gives the same float64: digits with at most one decimal sign and a minus
before them, or a typed number, that is below 2**53. Whatever else a cell may hold is left to `Feature.from_cell`.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Mask, Vector
from tabserve.columns.arrays import EXACT, given_in, read_flat, stored

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST = 40  # characters; `Notation` reads as many digits
_LONGEST_WHOLE = 18  # characters; such a number fits into 64 bits
_EXACT_SCALE = 22  # 10.0**22 is exact
_DIGIT, _MINUS, _SIGN, _OTHER = range(4)

Bounds: TypeAlias = npt.NDArray[np.signedinteger[Any]]


def _kinds(decimal: str) -> bytes:
    """The kind of each byte."""
    known = {**dict.fromkeys("0123456789", _DIGIT), "-": _MINUS, decimal: _SIGN}
    return bytes(known.get(chr(byte), _OTHER) for byte in range(256))


_KINDS = {decimal: _kinds(decimal) for decimal in ".,"}


def plain_numbers(array: "pa.Array", decimal: str = "") -> tuple[Vector, Mask]:
    """The plain numbers of an array.

    Parameters
    ----------
    array : pyarrow.Array
        n_cells raw cells.
    decimal : str
        The decimal sign of texts, a point or a comma; empty where texts must not be read here.

    Returns
    -------
    numbers : ndarray of float64, shape (n_cells,)
        Anything where there is no plain number.
    is_plain : ndarray of bool, shape (n_cells,)
        Which cells hold a plain number; an empty one does not.
    """
    import pyarrow as pa

    types = pa.types

    def read(flat: "pa.Array") -> tuple[Vector, Mask]:
        if types.is_integer(flat.type) or types.is_floating(flat.type):
            return _of_numbers(flat)
        if types.is_decimal128(flat.type) and 0 <= flat.type.scale <= _EXACT_SCALE:
            return _of_decimals(flat)
        is_text = types.is_string(flat.type) or types.is_large_string(flat.type)
        return _of_texts(flat, decimal) if is_text and decimal else (np.zeros(len(flat)), np.zeros(len(flat), np.bool_))

    return read_flat(array, read)


def _of_numbers(array: "pa.Array") -> tuple[Vector, Mask]:
    with np.errstate(invalid="ignore"):  # NaN is no plain number
        numbers = stored(array).astype(np.float64) + 0.0  # -0.0 is read as 0, as in workbooks
        return numbers, given_in(array) & (np.abs(numbers) < EXACT)


def _of_decimals(array: "pa.Decimal128Array") -> tuple[Vector, Mask]:
    """Those whose digits are one whole number below 2**53: one division rounds them correctly."""
    of_slice = slice(array.offset, array.offset + len(array))
    low, high = np.frombuffer(array.buffers()[1], "<i8").reshape(-1, 2)[of_slice].T
    is_small = (high == low >> 63) & (low > -EXACT) & (low < EXACT)
    numbers = low / 10.0**array.type.scale
    return numbers, given_in(array) & is_small


def _of_texts(array: "pa.Array", decimal: str) -> tuple[Vector, Mask]:
    """Arrow rounds correctly, but also reads what is no number here, and fails at the rest: it gets numerals only."""
    import pyarrow as pa
    import pyarrow.compute

    bounds, text = stored_texts(array)
    if b" " in text:
        array = pyarrow.compute.ascii_trim_whitespace(array)  # and any number that is left is one for Python
        bounds, text = stored_texts(array)
    is_plain = given_in(array) & _are_numerals(bounds, text, decimal)
    given = None if is_plain.all() else pa.py_buffer(np.packbits(is_plain, bitorder="little"))
    text = text.replace(decimal.encode(), b".")
    buffers = [given, pa.py_buffer(bounds), pa.py_buffer(text)]
    numerals = pa.Array.from_buffers(array.type, len(array), buffers)
    are_whole = b"." not in text and int(np.diff(bounds).max()) <= _LONGEST_WHOLE  # which Arrow reads faster
    read = numerals.cast(pa.int64() if are_whole else pa.float64())
    numbers: Vector = read.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    is_exact = (np.abs(numbers) < EXACT) & ~((numbers == 0) & np.signbit(numbers))  # "-0" is 0, and "-0.0" is not
    return numbers, is_plain & is_exact


def _are_numerals(bounds: Bounds, text: bytes, decimal: str) -> Mask:
    """Which texts are at most 40 digits, with at most one decimal sign among them and a minus before them."""
    lengths = np.diff(bounds)
    kinds = np.frombuffer(text.translate(_KINDS[decimal]), np.uint8)
    places = np.flatnonzero(kinds)
    if not places.size:
        return (lengths > 0) & (lengths <= _LONGEST)
    kinds = kinds[places]
    owners = np.repeat(np.arange(len(lengths)), lengths)[places]
    signs = np.bincount(owners[kinds == _SIGN], minlength=len(lengths))
    digits = lengths - np.bincount(owners, minlength=len(lengths))
    are_numerals: Mask = (digits > 0) & (lengths <= _LONGEST) & (signs < 2)
    are_numerals[owners[(kinds == _OTHER) | ((kinds == _MINUS) & (places != bounds[owners]))]] = False
    return are_numerals


def stored_texts(array: "pa.Array") -> tuple[Bounds, bytes]:
    """The texts of an array as UTF-8, one after the other, and where they begin and end.

    Parameters
    ----------
    array : pyarrow.StringArray or pyarrow.LargeStringArray
        n_cells texts, at least one.

    Returns
    -------
    bounds : ndarray of int, shape (n_cells + 1,)
        Where each text begins; the last is where the last one ends.
    text : bytes
    """
    import pyarrow as pa

    _, bounds, text = array.buffers()
    kind = np.int32 if pa.types.is_string(array.type) else np.int64
    bounds = np.frombuffer(bounds, kind)[array.offset : array.offset + len(array) + 1]
    return bounds - bounds[0], b"" if text is None else memoryview(text)[bounds[0] : bounds[-1]].tobytes()
