"""Decision: how a result follows from a prediction."""

from abc import ABC, abstractmethod

from tabserve.aliases import Predictions, Vector


class Decision(ABC):
    """How a result follows from a prediction; saved beside the model."""

    @property
    def cut(self) -> float | None:
        """The prediction from which on the result is another; None where there is no such cut."""
        return None

    @abstractmethod
    def decide(self, predictions: Predictions) -> Vector:
        """The result of each row, as the target is encoded.

        Parameters
        ----------
        predictions : ndarray, shape (n_rows,) or (n_rows, n_classes)

        Returns
        -------
        ndarray, shape (n_rows,)
        """


class AsLogged(Decision):
    """The decisions that were made, whatever the predictions and whatever decided then.

    Parameters
    ----------
    decided : ndarray, shape (n_rows,)
        As the target is encoded.
    """

    def __init__(self, decided: Vector) -> None:
        self.decided = decided

    def decide(self, predictions: Predictions) -> Vector:
        """The decisions about the same rows."""
        return self.decided
