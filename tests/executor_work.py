"""Tasks for the tests of executors: what is sent to processes is found by its name."""

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tabserve.errors import TooFewRowsError
from tabserve.executors import Shared


def square(number: int) -> int:
    return number * number


def place_and_sum(shared: Shared[npt.NDArray[np.float64]], number: int) -> tuple[int, int, float]:
    """The process, where it has the value, and a sum with it."""
    return os.getpid(), id(shared.get()), float(shared.get().sum()) + number


def fail() -> None:
    raise TooFewRowsError("training part", 3, 50)


def end() -> None:
    """End the process, as the system does when there is no memory left."""
    os._exit(1)


def wait(seconds: float, began: Path) -> None:
    """Write the process's number to a file, and wait."""
    new = began.with_suffix(".new")
    new.write_text(str(os.getpid()))
    new.rename(began)
    time.sleep(seconds)


def slow_square(number: int, seconds: float) -> tuple[int, int]:
    """The square, and the process."""
    time.sleep(seconds)
    return number * number, os.getpid()


def end_unless(told: Path) -> str:
    """End the process, but not a second time."""
    if told.exists():
        return "done"
    told.touch()
    os._exit(1)


def reveal(value: str) -> None:
    raise ValueError(f"{value} is no number")
