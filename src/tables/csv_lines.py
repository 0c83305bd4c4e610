"""Lines of CSV from columns of texts, joined by Arrow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tabserve.aliases import Places

if TYPE_CHECKING:
    import pyarrow as pa

LINES = 8 * 1024 * 1024  # characters of lines that are joined at a time, at most


def joined_lines(cells: "Sequence[pa.Array]", separator: str) -> bytes:
    """Rows as `csv.writer` writes them.

    Parameters
    ----------
    cells : sequence of pyarrow.StringArray
        The n_rows cells, at least one, of each column; null is an empty one.
    separator : str

    Returns
    -------
    bytes
        Lines in UTF-8 that end in CR LF.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = [_quoted(column, separator) for column in cells]
    if len(cells) == 1:  # an empty line would be no row
        cells = [pc.if_else(pc.equal(pc.fill_null(cells[0], ""), ""), '""', cells[0])]
    lines = pc.binary_join_element_wise(*cells, separator, null_handling="replace", null_replacement="")
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(lines)]), lines)
    content: bytes = pc.binary_join(whole, "\r\n")[0].as_buffer().to_pybytes()
    return content + b"\r\n"


def take_texts(texts: Sequence[str], places: Places) -> "pa.Array":
    """Texts, each put at all its places; what is no whole character is a question mark."""
    import pyarrow as pa

    try:
        distinct = pa.array(texts, pa.string())
    except UnicodeEncodeError:
        distinct = pa.array([text.encode(errors="replace").decode() for text in texts], pa.string())
    return distinct.take(pa.array(places))


def _quoted(texts: "pa.Array", separator: str) -> "pa.Array":
    """Texts with quotes around those that would break a line of CSV."""
    import pyarrow.compute as pc

    content = _content(texts)
    special = {separator, '"', "\r", "\n"}
    if not any(one.encode() in content for one in special):
        return texts
    needs = pc.match_substring_regex(texts, f'[{separator}"\r\n]')
    escaped = pc.replace_substring(texts, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise('"', escaped, '"', ""), texts)


def _content(texts: "pa.Array") -> bytes:
    """All texts of an array, one after the other."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return b""
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    content: bytes = data[int(ends[0]) : int(ends[-1])].to_pybytes()
    return content
