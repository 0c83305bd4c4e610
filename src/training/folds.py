"""Folds: which rows of the training part judge a model that was fitted on the others.

Rows that belong together, such as duplicates or the rows of one customer, are always in the same fold: a model is never
judged by a row that it has as good as seen. Where time splits the data, folds are blocks of time. Each block is judged
once by a model of all others, those after it included: forward chaining would leave the first block without
predictions, and would choose parameters for a fraction of the rows. How well the future is predicted is measured by
the hold-out, which is the newest part.

With very many rows one split is enough: a quarter of the rows, the newest where time splits the data, judges a model of
the others, and those others are judged by none.
"""

import numpy as np
import numpy.typing as npt

from tabserve.aliases import Vector
from tabserve.declaration.use_case import UseCase
from tabserve.models.base import Fold
from tabserve.tasks.base import Task
from tabserve.training.parts import Part

FEWEST = 2  # folds, below which nothing can be cross-validated
PARTS_OF_ONE_SPLIT = 4  # of which one judges


def folds_of(use_case: UseCase, train: Part, seed: int) -> list[Fold]:
    """The folds of a training part.

    Parameters
    ----------
    use_case : UseCase
        Says how many folds there are, and how often rows are dealt out. Blocks of time are dealt out once.
    train : Part
        Its rows.
    seed : int
        Of the dealing.

    Returns
    -------
    list of (ndarray, ndarray)
        Row numbers to fit on and to judge by, repeat after repeat. There are fewer folds where the groups or times are
        too few for a fold to vary.
    """
    most, repeats = use_case.folds_of(len(train.y))
    if most == 1:
        return _varied(use_case.task, train, PARTS_OF_ONE_SPLIT, 1, seed)[-1:]
    return _varied(use_case.task, train, most, repeats, seed)


def _varied(task: Task, train: Part, most: int, repeats: int, seed: int) -> list[Fold]:
    """As many folds as vary, two at least."""
    for splits in range(most, FEWEST, -1):
        folds = _deal(task, train, splits, repeats, seed)
        if all(_is_useful(task, train.y, fold) for fold in folds):
            return folds
    return _deal(task, train, FEWEST, repeats, seed)


def _is_useful(task: Task, y: Vector, fold: Fold) -> bool:
    return task.varies(y[fold[0]]) and task.can_be_judged_by(y[fold[1]])


def _deal(task: Task, train: Part, splits: int, repeats: int, seed: int) -> list[Fold]:
    if train.times is None:
        return task.folds(train.y, splits, repeats, seed, train.groups)
    blocks = blocks_of(train.times, splits)
    return [(np.flatnonzero(blocks != block), np.flatnonzero(blocks == block)) for block in np.unique(blocks)]


def blocks_of(times: Vector, number: int) -> npt.NDArray[np.intp]:
    """Divide rows into blocks of time of about the same size; rows of one moment are in the same block.

    Parameters
    ----------
    times : ndarray, shape (n_rows,)
    number : int
        How many blocks, if there are moments enough.

    Returns
    -------
    ndarray of int, shape (n_rows,)
        The block of each row; later blocks have larger numbers.
    """
    _, moments, counts = np.unique(times, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    blocks: npt.NDArray[np.intp] = np.floor(middle * number / len(times)).astype(np.intp)[moments]
    return blocks
