"""The writer of workbooks: answers as XLSX, for those who sent a workbook."""

import io
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

MAX_CELL_TEXT = 32_767  # characters; as many as Excel reads


def xlsx_bytes(columns: Mapping[str, Iterable[Any]]) -> bytes:
    """Columns as a workbook with one sheet.

    Parameters
    ----------
    columns : mapping
        The n_rows values of each column, by its name; they are read lazily.

    Returns
    -------
    bytes
        XLSX. A text is never a formula, whatever it begins with; dates are dates; NaN and None are empty cells.
    """
    from openpyxl import Workbook  # slow to import, and needed for few answers

    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet")
    for row in itertools.chain([list(columns)], zip(*columns.values(), strict=True)):
        sheet.append([_cell(sheet, value) for value in row])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def _cell(sheet: Any, value: Any) -> Any:
    if type(value) is str:
        return _text(sheet, value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(sheet: Any, text: str) -> Any:
    """A text; where it looks like a formula or an error, a cell that says it is none."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    text = ILLEGAL_CHARACTERS_RE.sub("", text)[:MAX_CELL_TEXT].encode(errors="replace").decode()
    if not text.startswith(("=", "#")):
        return text
    cell = WriteOnlyCell(sheet, value=text)
    cell.data_type = "s"
    return cell
