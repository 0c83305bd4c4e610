"""A predictor that counts what it predicts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tabserve.aliases import Record
from tabserve.api.metrics.figures import Figures
from tabserve.errors import InvalidFieldsError
from tabserve.explain import Explanation
from tabserve.predict import Prediction
from tabserve.predictor import Predictor, TablePrediction
from tabserve.registry.artifact import Artifact
from tabserve.tables.table import Table


class CountingPredictor(Predictor):
    """A predictor that counts rows, results, scores and faults.

    Parameters
    ----------
    predictor : Predictor
        What it predicts as, with the same models.
    figures : Figures
        Where it counts.

    Attributes
    ----------
    uncounted : Predictor
        The same without counting, for who counts what is answered.
    """

    def __init__(self, predictor: Predictor, figures: Figures) -> None:
        vars(self).update(vars(predictor))
        self.uncounted = predictor
        self._figures = figures

    def predict(self, artifact: Artifact, record: Record) -> Prediction:
        """Predict a record: see `Predictor.predict`."""
        with self._faults(artifact):
            prediction = super().predict(artifact, record)
        self._figures.decided(artifact, prediction)
        return prediction

    def explain(self, artifact: Artifact, record: Record) -> Explanation:
        """Explain the answer to a record: see `Predictor.explain`."""
        with self._faults(artifact):
            return super().explain(artifact, record)

    def explain_table(self, artifact: Artifact, table: Table) -> list[Explanation]:
        """Explain the answers to the rows of a table: see `Predictor.explain_table`."""
        with self._faults(artifact):
            return super().explain_table(artifact, table)

    def predict_table(self, artifact: Artifact, table: Table, *, partial: bool = False) -> TablePrediction:
        """Predict the rows of a table: see `Predictor.predict_table`."""
        with self._faults(artifact):
            return self._counted(super().predict_table(artifact, table, partial=partial))

    def predict_in_pieces(
        self, artifact: Artifact, table: Table, watch: Callable[[int], None], *, partial: bool = False
    ) -> TablePrediction:
        """Predict the rows of a table piece by piece: see `Predictor.predict_in_pieces`."""
        with self._faults(artifact):
            return self._counted(super().predict_in_pieces(artifact, table, watch, partial=partial))

    def _counted(self, answer: TablePrediction) -> TablePrediction:
        self._figures.decided(answer.artifact, answer.prediction)
        if problems := answer.problems():
            self._figures.at_fault(answer.artifact, problems)
        return answer

    @contextmanager
    def _faults(self, artifact: Artifact) -> Iterator[None]:
        try:
            yield
        except InvalidFieldsError as error:
            self._figures.at_fault(artifact, error.by_field)
            raise
