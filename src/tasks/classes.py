"""What tasks with classes share: each part needs rows of every class, and folds are stratified."""

import warnings

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.evaluation.metrics import HOLD_OUT, TRAIN
from tabserve.models.base import Fold
from tabserve.tasks.base import SMALLEST_CLASS, Task, check_number
from tabserve.transformers import Target

MOST_CODES = 5  # that a sentence lists


def given(target: Target) -> str:
    """What a target gives, in words."""
    codes = target.codes()
    if codes is None:
        return "any number"
    listed = ", ".join(f"{code:g}" for code in sorted(codes)[:MOST_CODES])
    return f"{len(codes)} class(es): {listed}{', …' if len(codes) > MOST_CODES else ''}"


class ClassTask(Task):
    """A task whose target is a class: a code, counted from 0, with an outcome's name."""

    def check_parts(self, train: Vector, hold_out: Vector, splits: int) -> None:
        """Each fold needs a row of each class to judge by."""
        for part, y, least in ((TRAIN, train, splits), (HOLD_OUT, hold_out, 0)):
            for code, outcome in enumerate(self.outcomes):
                check_number(part, int(np.sum(y == code)), max(SMALLEST_CLASS[part], least), f" of '{outcome}'")

    def varies(self, y: Vector) -> bool:
        """Whether there are rows of every class."""
        return len(np.unique(y)) == len(self.outcomes)

    def few(self, y: Vector, most: int) -> npt.NDArray[np.intp]:
        """The first rows of each class, of which one is enough where there are many classes."""
        of_each = max(1, most // len(self.outcomes))
        return np.sort(np.concatenate([np.flatnonzero(y == code)[:of_each] for code in range(len(self.outcomes))]))

    def _strata(self, y: Vector) -> Vector:
        return y

    def _folds(self, y: Vector, splits: int, repeats: int, seed: int) -> list[Fold]:
        from sklearn.model_selection import RepeatedStratifiedKFold

        with warnings.catch_warnings(action="ignore"):  # that a class has fewer rows than there are folds
            return list(RepeatedStratifiedKFold(n_splits=splits, n_repeats=repeats, random_state=seed).split(y, y))
