"""A year of decisions: monitoring finds the shift in its month and column, and cries no wolf elsewhere."""

import pytest

from benchmarks.year import COLUMN, MONTH, drifted, fill, found, trained
from tabserve.decisions.store import DecisionStore
from tabserve.monitoring.monitor import monitor
from tabserve.registry.artifact import Artifact
from tests.decisions import address_of_log, decision_store, decisions_postgres  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

N_ROWS = 24_000


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return trained(tmp_path_factory.mktemp("year"))


def test_the_shift_is_found_where_it_is_and_nowhere_else(store: DecisionStore, artifact: Artifact) -> None:
    fill(store, artifact, N_ROWS)
    result = monitor(store, artifact)
    assert drifted(result) == {(MONTH, COLUMN)}, "\n".join(found(result))
    *months, november, december, _ = result.windows
    assert len(months) == 10
    assert sum(window.rows for window in (*months, november, december)) == result.whole.rows == N_ROWS
    for window in months:
        assert window.quality
        low, high = window.quality.intervals["roc_auc"]
        assert low - 0.02 < window.estimated["roc_auc"] < high + 0.02
        assert window.quality.calibration
        assert window.quality.calibration.holds(0.05)
    assert november.quality is None
    assert december.quality is None  # their outcomes are to come
    assert 0.6 < december.estimated["roc_auc"] < 0.75
