"""The gauges of the newest results of `tabserve monitor`."""

from tabserve.api.metrics import catalogue
from tabserve.api.metrics.figures import Figures
from tabserve.decisions.store import DecisionStore
from tabserve.evaluation.drift import DRIFT
from tabserve.monitoring.kept import newest_of_all


def show_drift(store: DecisionStore, figures: Figures) -> None:
    """Show the newest result of each use case: of its last month, else of all of its time.

    Raises
    ------
    DecisionLogAwayError
        When the database cannot be used.
    """
    psi: dict[tuple[str, ...], float] = {}
    drifted: dict[tuple[str, ...], float] = {}
    looked: dict[tuple[str, ...], float] = {}
    for use_case, result in newest_of_all(store).items():
        looked[(use_case,)] = result["time"]
        for window in result["windows"][-2:][:1]:
            for one in (*window["columns"], *window["scores"]):
                psi[use_case, one["name"]] = one["drift"]["psi"]
                drifted[use_case, one["name"]] = float(one["drift"]["verdict"] == DRIFT)
    figures.replace(catalogue.DRIFT_PSI, psi)
    figures.replace(catalogue.DRIFT, drifted)
    figures.replace(catalogue.MONITORED, looked)
