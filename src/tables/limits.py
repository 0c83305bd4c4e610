"""What bounds the reading of a file: its time, and the form in which CSV and XLSX files hand over their rows."""

import math
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from tabserve.errors import FileLimitError

NOT_A_TABLE = "The file is neither CSV (UTF-8) nor XLSX."
Row: TypeAlias = tuple[int, Sequence[Any], int]  # its number as a spreadsheet shows it, its cells, how many it has


class Deadline:
    """When reading a file has to be over.

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
        """Seconds until it is over."""
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise `FileLimitError` when the time is over."""
        if time.monotonic() > self._end:
            raise too_slow(self.seconds)


def too_slow(seconds: float | None) -> FileLimitError:
    """The error of a file that takes too long."""
    return FileLimitError(f"Reading the file takes longer than {seconds:g} seconds: send it in several parts.")
