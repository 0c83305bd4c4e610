"""The deadline for reading a file, and the form in which readers return rows."""

import math
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from tabserve.errors import FileLimitError

NOT_A_TABLE = (
    "The file is neither CSV (UTF-8) nor a workbook (XLSX, XLS, ODS), Parquet, Feather or an Arrow IPC stream."
)
Row: TypeAlias = tuple[int, Sequence[Any], int]  # its number in a spreadsheet, its cells, and how many it has


class Deadline:
    """The time limit for reading a file.

    Parameters
    ----------
    seconds : float or None
        How long it may take from now on; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise `FileLimitError` when no time is left."""
        if time.monotonic() > self._end:
            raise too_slow(self.seconds)


def too_slow(seconds: float | None) -> FileLimitError:
    """The error of a file that takes too long."""
    return FileLimitError(f"Reading the file takes longer than {seconds:g} seconds: send it in several parts.")
