"""The Markdown report of the stress."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from benchmarks.report import BUSY, environment, medians_of, table
from benchmarks.services import DRIVER_CORE, SERVER_CORE

Figures = Mapping[str, float]
Summaries = Mapping[int, Figures]  # by the number of workers
RATIOS = {
    "crowd_p99_ratio": ("crowd_p99_ms", "quiet_p99_ms"),
    "jobs_p99_ratio": ("jobs_p99_ms", "quiet_before_jobs_p99_ms"),
    "accepted_ratio_400": ("accepted_400", "capacity_400"),
    "accepted_ratio_2000": ("accepted_2000", "capacity_2000"),
}
WORST = ("quiet_ready_ms", "crowd_ready_ms", "jobs_ready_ms")
TARGETS = (
    ("slowest `/ready` beside the crowd, ms", "crowd_ready_ms", "at most", 100),
    ("one-row p99 beside the crowd, relative to alone", "crowd_p99_ratio", "at most", 2),
    ("accepted/s at twice the capacity, relative to it, 400 connections", "accepted_ratio_400", "at least", 0.9),
    ("the same, 2,000 connections", "accepted_ratio_2000", "at least", 0.9),
    ("p99 of the accepted, ms, 400 connections", "accepted_p99_ms_400", "at most", 300),
    ("the same, 2,000 connections", "accepted_p99_ms_2000", "at most", 300),
    ("lost at twice the capacity, 400 connections", "lost_400", "at most", 0),
    ("the same, 2,000 connections", "lost_2000", "at most", 0),
    ("one-row p99 beside four files of 100,000 rows, relative to alone", "jobs_p99_ratio", "at most", 3),
    *(
        (f"lost at {name}, {clients} clients", f"lost_{name}_{clients}", "at most", 0)
        for name in ("SIGTERM", "SIGHUP")
        for clients in (8, 100)
    ),
)
CROWD = (
    ("one-row requests/s, alone", "quiet_requests", 0),
    ("beside the crowd", "crowd_requests", 0),
    ("p50 ms, alone", "quiet_p50_ms", 2),
    ("beside the crowd", "crowd_p50_ms", 2),
    ("p99 ms, alone", "quiet_p99_ms", 2),
    ("beside the crowd", "crowd_p99_ms", 2),
    ("slowest `/ready`, ms, alone", "quiet_ready_ms", 1),
    ("beside the crowd", "crowd_ready_ms", 1),
    ("connections that the crowd made", "crowd_connections", 0),
    ("of which the service closed", "crowd_closed", 0),
    ("connections that were reset", "crowd_resets", 0),
    ("not answered with 200, of the steady client and the probes", "crowd_unanswered", 0),
)
OVERLOAD = tuple(
    (f"{title}, {clients:,} connections", f"{name}_{clients}", digits)
    for clients in (400, 2_000)
    for title, name, digits in (
        ("capacity, requests/s", "capacity", 0),
        ("accepted/s", "accepted", 0),
        ("p50 of the accepted, ms", "accepted_p50_ms", 1),
        ("p99 of the accepted, ms", "accepted_p99_ms", 1),
        ("refused/s", "refused", 0),
        ("p50 of the refused, ms", "refused_p50_ms", 1),
        ("p99 of the refused, ms", "refused_p99_ms", 1),
        ("lost", "lost", 0),
        ("connections that could not be made", "not_connected", 0),
        ("share of its core that the client used", "client_busy", 2),
    )
)
JOBS = (
    ("p99 ms, alone", "quiet_before_jobs_p99_ms", 2),
    ("beside the files", "jobs_p99_ms", 2),
    ("slowest `/ready` beside the files, ms", "jobs_ready_ms", 1),
    ("until the last job was done, s", "jobs_seconds", 1),
    ("not answered with 200, of the steady client and the probes", "jobs_unanswered", 0),
)
STOPS = tuple(
    (f"{signal}, {clients} clients: {title}", f"{name}_{signal}_{clients}", 0)
    for signal in ("SIGTERM", "SIGHUP")
    for clients in (8, 100)
    for title, name in (("answered", "answered"), ("lost", "lost"))
)


def write_report(
    rounds: Mapping[int, Sequence[Figures]], model: str, command: str, load_before: float, load_after: float
) -> str:
    """Write up the figures of all rounds as Markdown.

    Parameters
    ----------
    rounds : mapping
        The figures of each round, by the number of workers.
    model : str
        Which model answered.
    command : str
        The command that repeats the run.
    load_before, load_after : float
        The machine's load average; other work makes the figures noisy.
    """
    of = {workers: summary(figures) for workers, figures in rounds.items()}
    number = len(next(iter(rounds.values())))
    busy = load_before > BUSY
    return "\n\n".join(
        [
            "# Stress",
            f"Written by `{command}` (`make stress`) on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. All workers of the "
            f"service, and the worker of jobs, share core {SERVER_CORE}; all clients are one event loop on core "
            f"{DRIVER_CORE}. The figures are medians of {number} round(s); times of `/ready` are the slowest of all "
            "rounds, and what was lost is added up. Only the ratios carry over to other machines.",
            *([f"**The machine was busy (load average {load_before:.1f}): do not trust these figures.**"] * busy),
            "## Targets",
            _targets(of),
            "## A crowd",
            "One keep-alive client asks for one row after another, and a new connection asks for `/ready` every 50 ms: "
            "first alone, then beside 2,000 idle connections; 200 that send a byte every two seconds, half of them of "
            "a head and half of a body; 50 that closed their side in the middle of a body; and 100 a second that "
            "send part of a request and reset the connection. Those whom the service disconnects come back after a "
            "second.",
            _rows(CROWD, of),
            "## Overload",
            "Twice the requests/s that 32 connections get, offered by 400 and by 2,000 connections on a schedule, with "
            "one request under way on each; measured from three seconds later. Times count from before a connection "
            "is made until the whole answer is there. A refusal is a 503. Lost is what was sent and got no answer, or "
            "one with another status.",
            _rows(OVERLOAD, of),
            "## Large files",
            "Four CSV files of 100,000 rows are sent as jobs at once, beside the same client. It is measured from the "
            "first byte of the files until the last job is done.",
            _rows(JOBS, of),
            "## Stop and reload",
            "Keep-alive clients that honour `Connection: close`, each with 50 requests/s, while the service gets the "
            "signal. Lost is what was sent and not answered with 200.",
            _rows(STOPS, of),
            "## Environment",
            environment(model, load_before, load_after),
        ]
    ).replace("\n\n\n", "\n\n")


def summary(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure, but the worst probe and all that was lost; ratios of them."""
    of = dict(medians_of(rounds))
    of |= {name: max(one[name] for one in rounds) for name in WORST if name in of}
    of |= {name: sum(one[name] for one in rounds) for name in of if name.startswith(("lost", "answered"))}
    return of | {name: of[above] / of[below] for name, (above, below) in RATIOS.items() if above in of}


def _targets(of: Summaries) -> str:
    rows = []
    for title, name, bound, limit in TARGETS:
        values = [figures[name] for figures in of.values() if name in figures]
        is_met = all(value >= limit if bound == "at least" else value <= limit for value in values)
        if values:
            rows.append(
                (title, *(f"{value:.3g}" for value in values), f"{bound} {limit}", "yes" if is_met else "**no**")
            )
    return table(("target", *_workers(of), "wanted", "met"), rows)


def _rows(rows: Sequence[tuple[str, str, int]], of: Summaries) -> str:
    cells = [
        (title, *(f"{figures[name]:,.{digits}f}" for figures in of.values()))
        for title, name, digits in rows
        if all(name in figures for figures in of.values())
    ]
    return table(("", *_workers(of)), cells)


def _workers(of: Summaries) -> Sequence[str]:
    return [f"{number} worker{'s' * (number > 1)}" for number in of]
