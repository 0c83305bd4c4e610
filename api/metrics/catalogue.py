"""All metrics: the name, the kind, the labels and the meaning of each."""

from dataclasses import dataclass

PATH = "/metrics"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
SUM, MOST = "sum", "most"  # what a gauge is for all processes together

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
PROBABILITIES = tuple(percent / 100 for percent in range(5, 101, 5))
VALUES = (  # of a regression, whose range is anybody's
    *(-1e6, -1e5, -1e4, -1e3, -100.0, -10.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0),
    *(1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6),
)


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
    kind : str
        `counter`, `gauge` or `histogram`.
    meaning : str
        A phrase.
    labels : tuple of str
        Names of its labels. Their values come from declarations, registries and routes, and never from input.
    together : str
        For a gauge, whether the values of all processes are added, or the largest counts.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    together: str = MOST


REQUESTS = Metric(
    "tabserve_requests_total",
    COUNTER,
    "Requests that were answered, by route, method and status",
    ("route", "method", "status"),
)
REQUEST_SECONDS = Metric(
    "tabserve_request_seconds",
    HISTOGRAM,
    "Seconds from when a request was there with its body to when its answer was begun",
    ("route",),
)
REFUSED = Metric(
    "tabserve_refused_total",
    COUNTER,
    "Requests and connections that were refused before any work: busy (503), clients (503, too many connections), "
    "slow (400, too late), malformed (400), broken (500)",
    ("reason",),
)
ROWS = Metric("tabserve_rows_total", COUNTER, "Rows that were predicted, of jobs too", ("use_case", "model"))
PREDICTIONS = Metric(
    "tabserve_predictions_total",
    COUNTER,
    "Rows that were predicted, by the answer's `result`; not of regressions",
    ("use_case", "model", "decision"),
)
SCORE = Metric(
    "tabserve_score",
    HISTOGRAM,
    "What models gave: the probability, the largest of several, or the value of a regression",
    ("use_case", "model"),
)
FAULTS = Metric(
    "tabserve_faults_total",
    COUNTER,
    "Fields at fault: missing, unknown or invalid; of a table, those of its first 100 rows at fault",
    ("use_case", "field", "kind"),
)
MODEL_LOADED = Metric("tabserve_model_loaded", GAUGE, "1 for each model that a worker holds", ("use_case", "model"))
MODEL_TRAINED = Metric(
    "tabserve_model_trained_timestamp_seconds",
    GAUGE,
    "When a model that a worker holds was trained, in seconds since 1970",
    ("use_case", "model"),
)
LOAD_FAILURES = Metric(
    "tabserve_model_load_failures_total",
    COUNTER,
    "How often a model was refused when it was to be loaded",
    ("use_case",),
)
REGISTRY_AWAY = Metric("tabserve_registry_away", GAUGE, "1 while the model registry cannot be reached")
JOBS = Metric("tabserve_jobs", GAUGE, "Jobs that are kept, by state", ("state",))
QUEUE_BYTES = Metric(
    "tabserve_decision_log_queue_bytes", GAUGE, "Bytes of decisions that wait for their database", together=SUM
)
QUEUE_SECONDS = Metric(
    "tabserve_decision_log_queue_seconds", GAUGE, "Seconds since no decision waited for the database"
)
LOG_AWAY = Metric("tabserve_decision_log_away", GAUGE, "1 while the database of decisions cannot be used")
LOG_DROPPED = Metric(
    "tabserve_decision_log_dropped_total", COUNTER, "Decisions that were answered without being logged"
)
LOGGED = Metric("tabserve_decisions_logged_total", COUNTER, "Decisions that were moved to their database")
WITHOUT_REASONS = Metric(
    "tabserve_decisions_without_reasons", GAUGE, "Decisions in the database whose reasons are not worked out yet"
)
MEMORY = Metric("tabserve_worker_memory_bytes", GAUGE, "Bytes of memory that a process takes", ("worker",))
RESTARTS = Metric("tabserve_worker_restarts_total", COUNTER, "Workers that took the place of one that had ended")
DRIFT_PSI = Metric(
    "tabserve_drift_psi",
    GAUGE,
    "Population stability index of a column in the newest result of `tabserve monitor`",
    ("use_case", "column"),
)
DRIFT = Metric(
    "tabserve_drift", GAUGE, "1 where `tabserve monitor` found that a column has drifted", ("use_case", "column")
)
MONITORED = Metric(
    "tabserve_monitored_timestamp_seconds",
    GAUGE,
    "When `tabserve monitor` last looked, in seconds since 1970",
    ("use_case",),
)
UNCOUNTED = Metric(
    "tabserve_uncounted_total", COUNTER, "What was not counted above, because a process has too many series"
)

METRICS = tuple(one for one in globals().values() if isinstance(one, Metric))
BY_NAME = {one.name: one for one in METRICS}
