"""LightGBM's own C library, without the lightgbm package.

`import lightgbm` brings pandas, scikit-learn and scipy into a process: 140 MB and seconds for each worker. Predicting
needs none of them: the wheel holds `lib_lightgbm`, and its C API takes a model's text and a matrix. Where the library
is not found, the package does the same work, slower to start.

See https://lightgbm.readthedocs.io/en/stable/C-API.html for the functions called here.
"""

import ctypes
import importlib.util
import os
import threading
import weakref
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tabserve.aliases import Matrix, Predictions

LIBRARY_NAMES = ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")
_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
_NORMAL = 0  # C_API_PREDICT_NORMAL
_CONTRIBUTIONS = 3  # C_API_PREDICT_CONTRIB
_ROW_MAJOR = 1


class Booster(Protocol):
    """What predicts from a LightGBM model's text."""

    def predict(self, matrix: Matrix) -> Predictions:
        """Predictions of a matrix.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_classes)
        """

    def contributions(self, matrix: Matrix) -> Predictions:
        """What each feature contributes to the raw scores of a matrix.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_features + 1) or (n_rows, n_classes, n_features + 1)
            The last one is the base value.
        """


def open_booster(text: str, threads: int | None = None) -> Booster:
    """The fastest booster available for a model.

    Parameters
    ----------
    text : str
        What `lightgbm.Booster.model_to_string` gave.
    threads : int, optional
        Threads for matrices of many rows; by default `OMP_NUM_THREADS`, else one: LightGBM with more threads than
        CPUs granted is many times slower.

    Returns
    -------
    Booster

    Raises
    ------
    ValueError
        For a text that is cut off: the library would abort the whole process.
    RuntimeError
        When the C library refuses the text.
    """
    if "\nend of trees\n" not in text:
        raise ValueError("This is not a whole LightGBM model: its text ends before its trees do.")
    threads = threads or granted_threads()
    path = library_path()
    return PackageBooster(text, threads) if path is None else NativeBooster(_library(path), text, threads)


def granted_threads() -> int:
    """Threads that matrices of many rows may take: `OMP_NUM_THREADS`, else one."""
    granted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # OpenMP takes a list, one for each level
    return int(granted) if granted.isdecimal() else 1


def without_objective(text: str) -> str:
    """A model's text without what turns raw scores into predictions: a booster of it predicts the raw scores."""
    return "\n".join(line for line in text.split("\n") if not line.startswith("objective="))


def library_path() -> Path | None:
    """Where the installed lightgbm wheel keeps its C library; None when it is not there."""
    spec = importlib.util.find_spec("lightgbm")  # finds the package and does not import it
    folders = spec.submodule_search_locations if spec else None
    candidates = (Path(folder, "lib", name) for folder in folders or () for name in LIBRARY_NAMES)
    return next((path for path in candidates if path.is_file()), None)


@cache
def _library(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library


@cache
def _library_holding_the_gil(path: str) -> ctypes.PyDLL:
    # One row takes 3 µs: giving the interpreter lock away for that costs more than it frees.
    return ctypes.PyDLL(path)


class _Handle(ctypes.c_void_p):
    """A loaded model, freed by the library when nobody refers to it any more."""


class NativeBooster:
    """A model in LightGBM's C library.

    Safe between threads: a matrix is predicted under the library's own shared lock, a single row with buffers that
    belong to the calling thread. Contributions are computed by one thread at a time, while others predict.

    Parameters
    ----------
    library : ctypes.CDLL
        The loaded library.
    text : str
        The model.
    threads : int
        OpenMP threads for matrices of many rows.

    Attributes
    ----------
    n_features : int
        Columns that a matrix must have.
    n_outputs : int
        Numbers that are predicted for each row: 1 or, with several classes, one for each.

    Raises
    ------
    RuntimeError
        When the library refuses the text.
    """

    def __init__(self, library: ctypes.CDLL, text: str, threads: int) -> None:
        self._library = library
        self._handle = _Handle()
        self._parameters = f"num_threads={threads}".encode()
        self._rows = threading.local()
        self._contributing = threading.Lock()
        rounds = ctypes.c_int()
        self._call("BoosterLoadModelFromString", text.encode(), ctypes.byref(rounds), ctypes.byref(self._handle))
        weakref.finalize(self._handle, library.LGBM_BoosterFree, ctypes.c_void_p(self._handle.value)).atexit = False
        self.n_features = self._count("BoosterGetNumFeature")
        self.n_outputs = self._count("BoosterGetNumClasses")

    def predict(self, matrix: Matrix) -> Predictions:
        """Predictions of a matrix, equal to `lightgbm.Booster.predict` to the last bit.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_classes)

        Raises
        ------
        ValueError
            When the matrix has another number of columns: the library would read past its end.
        RuntimeError
            When the library fails.
        """
        self._check_shape(matrix)
        return self._predict_row(matrix) if len(matrix) == 1 else self._predict_rows(matrix, _NORMAL)

    def contributions(self, matrix: Matrix) -> Predictions:
        """What each feature contributes, equal to `lightgbm.Booster.predict(pred_contrib=True)` to the last bit.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_features + 1) or (n_rows, n_classes, n_features + 1)
            Each feature's TreeSHAP value, in the unit of the raw score; the last one is the base value.

        Raises
        ------
        ValueError
            When the matrix has another number of columns: the library would read past its end.
        RuntimeError
            When the library fails.

        Notes
        -----
        Lundberg et al. (2020), doi 10.1038/s42256-019-0138-9.
        """
        self._check_shape(matrix)
        with self._contributing:  # each call makes the library measure its trees again, in memory that calls share
            return self._predict_rows(matrix, _CONTRIBUTIONS, self.n_features + 1)

    def _check_shape(self, matrix: Matrix) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != self.n_features:
            raise ValueError(
                f"The model needs a matrix with {self.n_features} columns, not one of shape {matrix.shape}."
            )

    def _predict_rows(self, matrix: Matrix, kind: int, *width: int) -> Predictions:
        """Numbers for each row, for each class where there are several, and for each of `width`."""
        matrix = np.ascontiguousarray(matrix, dtype=np.float64)
        classes = () if self.n_outputs == 1 else (self.n_outputs,)
        result = np.empty((len(matrix), *classes, *width), dtype=np.float64)
        written = ctypes.c_int64()
        self._call(
            "BoosterPredictForMat",
            self._handle,
            ctypes.c_void_p(matrix.ctypes.data),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(len(matrix)),
            ctypes.c_int32(self.n_features),
            ctypes.c_int(_ROW_MAJOR),
            ctypes.c_int(kind),
            ctypes.c_int(0),  # from the first tree
            ctypes.c_int(-1),  # to the last
            ctypes.c_char_p(self._parameters),
            ctypes.byref(written),
            ctypes.c_void_p(result.ctypes.data),
        )
        return result

    def _predict_row(self, matrix: Matrix) -> Predictions:
        try:
            row: _RowPredictor = self._rows.predictor
        except AttributeError:
            row = self._rows.predictor = _RowPredictor(self)
        return row(matrix)

    def _count(self, function: str) -> int:
        count = ctypes.c_int()
        self._call(function, self._handle, ctypes.byref(count))
        return count.value

    def _call(self, function: str, *arguments: Any) -> None:
        if getattr(self._library, f"LGBM_{function}")(*arguments) != 0:
            raise RuntimeError(f"LightGBM: {self._library.LGBM_GetLastError().decode()}")


class _RowPredictor:
    """The single-row fast call of one booster for one thread: everything that can be prepared is."""

    def __init__(self, booster: NativeBooster) -> None:
        self._booster = booster._handle  # the model must outlive this
        self._config = ctypes.c_void_p()
        booster._call(
            "BoosterPredictForMatSingleRowFastInit",
            booster._handle,
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(-1),
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(booster.n_features),
            ctypes.c_char_p(b"num_threads=1"),
            ctypes.byref(self._config),
        )
        weakref.finalize(self, booster._library.LGBM_FastConfigFree, self._config).atexit = False
        library = _library_holding_the_gil(booster._library._name)
        self._predict = library.LGBM_BoosterPredictForMatSingleRowFast
        self._error = booster._library.LGBM_GetLastError
        self._row = (ctypes.c_double * booster.n_features)()
        self._view = np.ctypeslib.as_array(self._row)
        self._result = (ctypes.c_double * booster.n_outputs)()
        shape = (1,) if booster.n_outputs == 1 else (1, booster.n_outputs)
        self._answer = np.ctypeslib.as_array(self._result).reshape(shape)
        self._arguments = (
            self._config,
            ctypes.byref(self._row),
            ctypes.byref(ctypes.c_int64()),
            ctypes.byref(self._result),
        )

    def __call__(self, matrix: Matrix) -> Predictions:
        self._view[:] = matrix[0]
        if self._predict(*self._arguments) != 0:
            raise RuntimeError(f"LightGBM: {self._error().decode()}")
        return self._answer.copy()


class PackageBooster:
    """The same model in the lightgbm package, for installations whose C library is elsewhere.

    Parameters
    ----------
    text : str
        The model.
    threads : int
        Threads for matrices of many rows.
    """

    def __init__(self, text: str, threads: int) -> None:
        import lightgbm

        self._booster = lightgbm.Booster(model_str=text)
        outputs = self._booster.num_model_per_iteration()
        self._classes = () if outputs == 1 else (outputs,)
        self._threads = threads
        self._contributing = threading.Lock()

    def predict(self, matrix: Matrix) -> Predictions:
        """Predictions of a matrix.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_classes)
        """
        predictions = self._booster.predict(matrix, num_threads=self._threads)
        return np.asarray(predictions, dtype=np.float64).reshape(len(matrix), *self._classes)

    def contributions(self, matrix: Matrix) -> Predictions:
        """What each feature contributes to the raw scores of a matrix.

        Parameters
        ----------
        matrix : ndarray of float64, shape (n_rows, n_features)
            Rows in the order of the model's features.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_features + 1) or (n_rows, n_classes, n_features + 1)
            The last one is the base value.
        """
        shape = (len(matrix), *self._classes, matrix.shape[1] + 1)
        if not len(matrix):  # the package would divide by it
            return np.empty(shape)
        with self._contributing:  # the package calls the same library
            contributions = self._booster.predict(matrix, num_threads=self._threads, pred_contrib=True)
        return np.asarray(contributions, dtype=np.float64).reshape(shape)
