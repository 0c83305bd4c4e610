"""The figures of all processes together, in the formats of Prometheus and OpenMetrics.

Only who is asked for metrics imports this: prometheus-client takes 0.1 s to import, and 12 MB.
"""

import math
import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tabserve.api.metrics import folder as folders
from tabserve.api.metrics.catalogue import COUNTER, GAUGE, HISTOGRAM, MEMORY, METRICS, ROWS, SCORE, SUM, Metric
from tabserve.api.metrics.sheet import Series, read

OPEN_METRICS = "application/openmetrics-text"

Totals: TypeAlias = dict[Metric, dict[tuple[str, ...], Series]]


def exposition(folder: Path, accept: str = "") -> tuple[bytes, str]:
    """The metrics of a service.

    Parameters
    ----------
    folder : Path
        Of its sheets.
    accept : str
        The header of the request.

    Returns
    -------
    bytes, str
        The text, and its media type.
    """
    figures = _Figures(folder)
    if OPEN_METRICS in accept:
        text: bytes = openmetrics.generate_latest(figures)  # type: ignore[no-untyped-call]
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(figures), CONTENT_TYPE_PLAIN_0_0_4


class _Figures(Collector):
    """All metrics of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Family]:
        totals = totals_of(self._folder)
        for metric in METRICS:
            yield _family(metric, totals.get(metric, {}))


def totals_of(folder: Path) -> Totals:
    """The series of all sheets, added up."""
    totals: Totals = {}
    for name, content in folders.sheets(folder):
        process, series = read(content)
        runs = _runs(process)
        for one in series:
            if one.metric.kind != GAUGE or (runs and not math.isnan(one.values[0])):
                _add(totals, one)
        if runs and not name.startswith(folders.LOOP):  # a thread of a worker
            _add(totals, Series(MEMORY, (name.removeprefix(f"{folders.WORKER}-"),), 0, (), [_memory(process)]))
    scores = totals.get(SCORE, {})  # each row has one
    totals[ROWS] = {labels: Series(ROWS, labels, 0, (), [sum(one.values[:-1])]) for labels, one in scores.items()}
    return totals


def _add(totals: Totals, one: Series) -> None:
    of_metric = totals.setdefault(one.metric, {})
    before = of_metric.get(one.labels)
    is_most = one.metric.kind == GAUGE and one.metric.together != SUM
    if before and before.edges == one.edges:
        combine = max if is_most else float.__add__
        one = one._replace(values=[*map(combine, before.values, one.values)])
    of_metric[one.labels] = one


def _family(metric: Metric, series: dict[tuple[str, ...], Series]) -> Family:
    if metric.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for labels, one in series.items():
            *counts, total = one.values
            edges = [*map(floatToGoString, one.edges), "+Inf"]
            histogram.add_metric(labels, [*zip(edges, accumulate(counts), strict=True)], total)
        return histogram
    kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for labels, one in series.items():
        family.add_metric(labels, one.values[0])
    if metric.kind == COUNTER and not metric.labels and not series:
        family.add_metric((), 0)
    return family


def _runs(process: int) -> bool:
    """Whether a process has not ended."""
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return process > 0


def _memory(process: int) -> int:
    """Bytes of memory that a process takes."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not on Linux, or it has just ended
        return 0
