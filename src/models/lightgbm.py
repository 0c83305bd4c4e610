"""LightGBM models."""

import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tabserve.aliases import Matrix, Metric, Predictions, Vector, Weights
from tabserve.columns.matrix import Columns, check_described
from tabserve.models import faster
from tabserve.models.base import (
    AT_ONCE,
    Classifier,
    CrossValidation,
    Fold,
    Model,
    MulticlassClassifier,
    Regressor,
    cpus,
    gather,
    mean_metric,
    of_rows,
)
from tabserve.models.native import Booster, open_booster
from tabserve.search_space import Dimension, Flag, Real, Whole

if TYPE_CHECKING:
    import lightgbm

MAX_ROUNDS = 20_000  # a safety: the curve of losses ends long before
LARGE = 5_000  # rows, that can tell more bins apart
MANY = 20_000  # rows, of which small or slow trees would need thousands of rounds
CHUNK = 25  # rounds between two looks at the curve
PATIENCE = 50  # rounds without a new best after which the folds stop


# Read when LightGBM is loaded. Threads that wait would spin: where others use the CPUs, too, two threads took 10 to 30
# times the CPU of one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

logger = logging.getLogger(__name__)

# For tables of some hundreds to some thousands of rows; narrow enough for thirty trials.
SEARCH_SPACE: Mapping[str, Dimension] = MappingProxyType(
    {
        "num_leaves": Whole(4, 24, log=True),
        "max_depth": Whole(2, 8),
        "min_data_in_leaf": Whole(5, 20, log=True),
        "feature_fraction": Real(0.5, 1.0),
        "feature_fraction_bynode": Real(0.2, 0.9),
        "bagging_fraction": Real(0.6, 1.0),
        "lambda_l1": Real(0.001, 1.0, log=True),
        "lambda_l2": Real(0.01, 10.0, log=True),
        "learning_rate": Real(0.04, 0.1, log=True),
        "max_bin": Whole(16, 127, log=True),
        "cat_smooth": Real(5.0, 50.0, log=True),
        "extra_trees": Flag(),
    }
)


class LgbModel(Model):
    """Gradient-boosted trees by LightGBM; fitting needs the lightgbm package, predicting does not.

    The parameters have LightGBM's own names and meanings
    (https://lightgbm.readthedocs.io/en/stable/Parameters.html), except for these:

    Parameters
    ----------
    num_rounds : int
        How many trees; cross-validation chooses it.
    seed : int
        Seed of all random choices. In LightGBM's deterministic mode, equal data give equal models, whatever the number
        of threads.

    Attributes
    ----------
    text_ : str
        The fitted model in LightGBM's text format; all that is pickled.
    """

    chosen_by_cross_validation = frozenset({"num_rounds"})
    keeps_monotone = True
    limits = MappingProxyType(
        {
            "num_leaves": (2, 4096),
            "max_depth": (1, 64),
            "min_data_in_leaf": (1, 10_000),
            "feature_fraction": (0.05, 1),
            "feature_fraction_bynode": (0.05, 1),
            "bagging_fraction": (0.1, 1),
            "lambda_l1": (0.001, 1000),
            "lambda_l2": (0.001, 1000),
            "learning_rate": (0.01, 0.5),
            "max_bin": (15, 1023),
            "cat_smooth": (1, 10_000),
        }
    )
    objective: str
    stopping_metric: str  # LightGBM's name of the loss that chooses the number of rounds; lower is better

    def __init__(
        self,
        num_rounds: int = 100,
        learning_rate: float = 0.1,
        num_leaves: int = 31,
        max_depth: int = -1,
        min_data_in_leaf: int = 20,
        feature_fraction: float = 1.0,
        feature_fraction_bynode: float = 1.0,
        bagging_fraction: float = 1.0,
        lambda_l1: float = 0.0,
        lambda_l2: float = 0.0,
        max_bin: int = 255,
        cat_smooth: float = 10.0,
        extra_trees: bool = False,
        seed: int = 0,
    ) -> None:
        self.num_rounds = num_rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.max_depth = max_depth
        self.min_data_in_leaf = min_data_in_leaf
        self.feature_fraction = feature_fraction
        self.feature_fraction_bynode = feature_fraction_bynode
        self.bagging_fraction = bagging_fraction
        self.lambda_l1 = lambda_l1
        self.lambda_l2 = lambda_l2
        self.max_bin = max_bin
        self.cat_smooth = cat_smooth
        self.extra_trees = extra_trees
        self.seed = seed

    def fit(self, X: Matrix, y: Vector, columns: Columns = (), weights: Weights = None) -> Self:
        """Grow `num_rounds` trees on a (n_rows, n_columns) matrix.

        Categories without an order are split by sets of their codes; the columns' `monotone` are constraints.
        """
        from lightgbm import Booster

        threads = cpus() if len(X) > MANY else 1
        parameters = self._parameters(X, y, columns, threads)
        booster = Booster(parameters, _dataset(X, y, columns, weights, parameters))
        for _ in range(self.num_rounds):
            booster.update()
        # the trees are the same with any number of threads, and so is the text
        self.text_: str = booster.model_to_string().replace(f"[num_threads: {threads}]", "[num_threads: 1]")
        self.__dict__.pop("_booster", None)
        return self

    def predict(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return self._booster.predict(X)

    def contributions(self, X: Matrix) -> Predictions:
        self.check_is_fitted()
        return self._booster.contributions(X)

    def default_search_space(self, n_rows: int, n_columns: int) -> Mapping[str, Dimension]:
        """Ranges that hold LightGBM's defaults and grow with the table.

        More rows can tell more leaves apart, and need more of them in a leaf. The rarest values of a category with
        thousands of them have few rows however large the table is: `cat_smooth` must then be far above its default.
        Of many columns, few are enough for a tree.
        """
        return {
            "num_leaves": Whole(4 if n_rows < MANY else 15, _within(31, n_rows // 100, 255), log=True),
            "min_data_in_leaf": Whole(5, _within(30, n_rows // 200, 200), log=True),
            "feature_fraction": Real(0.5 if n_columns <= 100 else 0.2, 1.0),
            "feature_fraction_bynode": Real(0.3, 1.0),
            "bagging_fraction": Real(0.6, 1.0),
            "lambda_l2": Real(0.01, 10.0, log=True),
            "learning_rate": Real(*((0.03, 0.15) if n_rows < MANY else (0.05, 0.2)), log=True),
            "max_bin": Whole(31 if n_rows < LARGE else 127, 255 if n_rows < LARGE else 511, log=True),
            "cat_smooth": Real(5.0, _within(50, n_rows // 100, 1000), log=True),
            "extra_trees": Flag(),
        }

    def cross_validate(
        self,
        X: Matrix,
        y: Vector,
        folds: Sequence[Fold],
        metric: Metric,
        jobs: int = 1,
        columns: Columns = (),
        weights: Weights = None,
    ) -> CrossValidation:
        """Cross-validation with early stopping: all folds grow together until their mean loss has stopped falling.

        All folds have the same number of rounds, the one with the smallest mean loss, so that no fold is flattered by
        a number of its own.

        Many rows are sorted into bins once, for all folds. The ends of the bins then come from all rows, those that
        judge included, but from no target; they are the ends that the final model has.
        """
        from lightgbm import Booster

        threads = max(1, jobs // len(folds)) if len(X) > MANY else 1
        parameters = self._parameters(X, y, columns, threads, self.stopping_metric)
        divide = _divided if len(X) > MANY else _binned_apart
        boosters = []
        for fitted, judges in divide(X, y, columns, weights, parameters, folds):
            boosters.append(Booster(parameters, fitted))
            boosters[-1].add_valid(judges, "valid")
        losses = np.empty((0, len(folds)))
        with ThreadPoolExecutor(jobs, initializer=partial(_silence_this_thread, threads)) as pool:
            while len(losses) < MAX_ROUNDS and len(losses) - _best_rounds(losses) < PATIENCE:
                losses = np.vstack([losses, np.transpose(list(pool.map(_grow, boosters)))])
            rounds = _best_rounds(losses)
            if rounds > MAX_ROUNDS - PATIENCE:
                logger.warning("LightGBM: the loss still fell after %d rounds; raise the learning rate.", MAX_ROUNDS)

            def predict(booster: "lightgbm.Booster", fold: Fold) -> Predictions:
                return self._predict_fold(booster, rounds, (X, y, columns, weights), fold)

            predictions = list(pool.map(predict, boosters, folds))
        return CrossValidation(
            mean_metric(metric, y, folds, predictions), gather(folds, predictions, len(y)), {"num_rounds": rounds}
        )

    def _predict_fold(
        self, booster: "lightgbm.Booster", rounds: int, data: tuple[Matrix, Vector, Columns, Weights], fold: Fold
    ) -> Predictions:
        """Predict the second part of a fold by trees that were grown on its first; the data are what `fit` takes."""
        X, threads = data[0], booster.params["num_threads"]
        starts = range(0, len(fold[1]), AT_ONCE)
        some = (X[fold[1][start : start + AT_ONCE]] for start in starts)
        return np.concatenate(
            [np.asarray(booster.predict(rows, num_iteration=rounds, num_threads=threads)) for rows in some]
        )

    def speed_up(self, name: str, folder: Path | None = None) -> None:
        self._booster = faster.speed_up(self._booster, self.text_, name, folder)

    @cached_property
    def _booster(self) -> Booster:
        return open_booster(self.text_)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_booster"}

    def _parameters(self, X: Matrix, y: Vector, columns: Columns, threads: int, metric: str = "none") -> dict[str, Any]:
        """LightGBM's parameters. More threads than CPUs that are granted are slower than one."""
        if columns:
            check_described(X, columns)
        directions = [column.monotone for column in columns]
        parameters = {name: value for name, value in self.get_params().items() if name not in _OWN_PARAMETERS}
        return parameters | {
            "objective": self.objective,
            "num_class": self._outputs(y),
            "metric": metric,
            "bagging_freq": 1,
            "monotone_constraints": directions if any(directions) else None,
            "num_threads": threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    @abstractmethod
    def _outputs(self, y: Vector) -> int:
        """How many numbers it predicts for each row."""


class LgbClassifier(LgbModel, Classifier):
    """LightGBM for two classes; nothing is re-weighted."""

    objective = "binary"
    stopping_metric = "binary_logloss"

    def _outputs(self, y: Vector) -> int:
        return 1


class LgbMulticlassClassifier(LgbModel, MulticlassClassifier):
    """LightGBM for several classes, with a tree for each class in a round; nothing is re-weighted."""

    objective = "multiclass"
    stopping_metric = "multi_logloss"

    def _outputs(self, y: Vector) -> int:
        return int(np.max(y)) + 1


class LgbRegressor(LgbModel, Regressor):
    """LightGBM for a number; squared errors are minimised."""

    objective = "regression"
    stopping_metric = "l2"

    def _outputs(self, y: Vector) -> int:
        return 1


class LgbCountRegressor(LgbRegressor):
    """LightGBM for counts: a Poisson regression, whose predictions are never negative."""

    objective = "poisson"
    smallest_target = 0.0


_OWN_PARAMETERS = frozenset({"num_rounds"})


def _within(least: int, value: int, most: int) -> int:
    return min(max(value, least), most)


def _dataset(
    X: Matrix, y: Vector, columns: Columns, weights: Weights, parameters: Mapping[str, Any]
) -> "lightgbm.Dataset":
    from lightgbm import Dataset

    nominal = [place for place, column in enumerate(columns) if column.is_nominal]
    return Dataset(X, y, weight=weights, categorical_feature=nominal, params=dict(parameters))


def _divided(
    X: Matrix, y: Vector, columns: Columns, weights: Weights, parameters: Mapping[str, Any], folds: Sequence[Fold]
) -> "Iterator[tuple[lightgbm.Dataset, lightgbm.Dataset]]":
    """Both parts of each fold, of rows that are sorted into bins once."""
    whole = _dataset(X, y, columns, weights, parameters)
    for fold in folds:
        fitted, judges = (whole.subset(rows.tolist(), dict(parameters)) for rows in fold)
        yield fitted, judges


def _binned_apart(
    X: Matrix, y: Vector, columns: Columns, weights: Weights, parameters: Mapping[str, Any], folds: Sequence[Fold]
) -> "Iterator[tuple[lightgbm.Dataset, lightgbm.Dataset]]":
    """Both parts of each fold, with bins of the rows that are fitted on."""
    for rows, judged in folds:
        fitted = _dataset(X[rows], y[rows], columns, of_rows(weights, rows), parameters)
        judges = fitted.create_valid(X[judged], y[judged], weight=of_rows(weights, judged), params=dict(parameters))
        yield fitted, judges


def _silence_this_thread(threads: int) -> None:
    """Make LightGBM, which keeps its verbosity for each thread and sets it when the thread makes something, silent.

    Its number of threads is kept for the process: left out here, it would be reset to all CPUs for every booster.
    """
    from lightgbm import Dataset

    Dataset(np.zeros((2, 1)), params={"verbosity": -1, "num_threads": threads}).construct()


def _grow(booster: "lightgbm.Booster") -> list[float]:
    losses = []
    for _ in range(CHUNK):
        booster.update()
        losses.append(float(booster.eval_valid()[0][2]))
    return losses


def _best_rounds(losses: Matrix) -> int:
    """The number of rounds, from 1, with the smallest mean loss of a (n_rounds, n_folds) matrix; 0 before the first."""
    return int(np.argmin(losses.mean(axis=1))) + 1 if len(losses) else 0
