"""The Markdown report."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.services import DRIVER_CORE, SERVER_CORE, Service

Figures = Mapping[str, float]
BUSY = 0.7  # load average above which other work distorts the measurement
PACKAGES = (
    *("tabserve", "flask", "werkzeug", "apiflask", "gunicorn", "orjson", "numpy", "lightgbm", "pandas"),
    *("fastapi", "pydantic", "uvicorn", "uvloop", "httptools"),
)


def write_report(
    services: Mapping[str, Service],
    rounds: Mapping[str, Sequence[Figures]],
    timings: Figures,
    model: str,
    command: str,
    load_before: float,
    load_after: float,
) -> str:
    """Write up all measurements as Markdown.

    Parameters
    ----------
    services : mapping
        Those compared, by short name.
    rounds : mapping
        The figures of each round, by service name; the medians are computed here.
    timings : mapping
        In-process microseconds.
    model : str
        Which model answered.
    command : str
        The command that repeats the run.
    load_before, load_after : float
        The machine's load average; other work makes the figures noisy.
    """
    medians = {name: medians_of(figures) for name, figures in rounds.items()}
    titles = {name: service.title for name, service in services.items()}
    number = len(rounds["service"])
    busy = load_before > BUSY
    return "\n\n".join(
        [
            "# Benchmark",
            f"Written by `{command}` (`make bench`) on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Each service has one "
            "worker on one core; wrk (1 thread) sends requests from another core. The figures are medians of "
            f"{number} interleaved round(s), each with a fresh process. Only the ratios carry over to other machines. "
            "Before anything was timed, the answers to all records were compared with `lightgbm.Booster.predict`: they "
            "are equal to the last bit.",
            "The expert is the service that an expert would write: FastAPI, a pydantic record with every category and "
            "bound, look-ups into an array instead of pandas, orjson; uvicorn with uvloop and httptools. The tutorial "
            "is the service that tutorials build: FastAPI, a pydantic record, and a DataFrame for each request, whose "
            'text columns become categories by `astype("category")`. Its faster variant fixes the categories in '
            "advance. All use the same LightGBM model. The floor is an empty Flask route under gunicorn's threaded "
            "worker, which parses the JSON as Flask does by default.",
            *([f"**The machine was busy (load average {load_before:.1f}): do not trust these figures.**"] * busy),
            "## Targets",
            _targets(medians, timings),
            "## One row in each request",
            "8 keep-alive connections, 200 different records in turn. CPU is the worker's own time for a request; "
            "other work on the machine affects it less. With a decision log, the process that moves decisions into an "
            "SQLite file and works out their reasons runs on the same core meanwhile: it takes from the requests a "
            "second, and not from the worker's CPU time.",
            _one_row(titles, medians, rounds),
            "## Lists",
            "One keep-alive connection, one list after another. The last columns say how long one-row requests of 8 "
            "connections take alone, and while another connection sends one list of 100 rows after another.",
            _lists(titles, medians),
            "## Memory and start",
            "Memory of the worker process in MB, after 10,000 one-row requests or more, and after the lists. RSS "
            "counts all its pages. PSS counts half of the pages that it shares with gunicorn's master, which imports "
            "libraries before it forks. Start is the time from the command to the first 200 from `/ready`. "
            "Replacement is the time from the death of a worker to the first 200 from the one that gunicorn forks in "
            "its place.",
            _memory(titles, medians),
            "## In process",
            "Medians in microseconds, for one record and a model of 150 trees, without sockets. The WSGI callables are "
            "called as a server calls them; the service uses the model named below.",
            _in_process(timings),
            "## Environment",
            environment(model, load_before, load_after),
        ]
    ).replace("\n\n\n", "\n\n")


def medians_of(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def _targets(medians: Mapping[str, Figures], timings: Figures) -> str:
    service, tutorial = medians["service"], medians["tutorial"]

    def speed(name: str, than: str) -> float:
        return medians[name]["requests"] / medians[than]["requests"]

    targets = [
        ("one-row requests/s, relative to the expert's FastAPI", speed("service", "expert"), "at least", 2.2),
        *(
            [("one-row requests/s, relative to those before", speed("service", "before"), "at least", 3)]
            if "before" in medians
            else []
        ),
        ("the same with users and a rate limit, relative to without", speed("guarded", "service"), "at least", 0.7),
        (
            "the same with metrics and decision log, relative to without",
            speed("operated", "service"),
            "at least",
            0.85,
        ),
        ("one-row requests/s, relative to the tutorial", speed("service", "tutorial"), "at least", 20),
        (
            "rows/s in lists of 1,000, relative to the tutorial",
            service["rows_1000"] / tutorial["rows_1000"],
            "at least",
            2,
        ),
        (
            "the same record to probability in process, repeatedly, µs",
            timings["same_record_to_probability"],
            "at most",
            15,
        ),
        ("200 different records to probability in process, µs each", timings["record_to_probability"], "at most", 15),
        ("memory of a worker after 10,000 one-row requests (RSS), MB", service["rss_mb"], "at most", 75),
        ("time until a replacement worker is ready, s", service["replacement_seconds"], "at most", 1),
    ]
    rows = [
        (what, f"{value:.3g}", f"{bound} {limit}", "yes" if (value >= limit) == (bound == "at least") else "**no**")
        for what, value, bound, limit in targets
    ]
    return table(("target", "measured", "wanted", "met"), rows)


def _one_row(titles: Mapping[str, str], medians: Mapping[str, Figures], rounds: Mapping[str, Sequence[Figures]]) -> str:
    rows = []
    for name, title in titles.items():
        figures = medians[name]
        each = [one["requests"] for one in rounds[name]]
        rows.append(
            (
                title,
                f"{figures['requests']:,.0f}",
                f"{min(each):,.0f} to {max(each):,.0f}",
                f"{figures['p50_ms']:.2f}",
                f"{figures['p99_ms']:.2f}",
                f"{figures['cpu_us']:,.0f}",
                f"{figures['requests'] / medians['expert']['requests']:.2f}",
                f"{medians['expert']['cpu_us'] / figures['cpu_us']:.2f}",
                f"{figures['requests'] / medians['tutorial']['requests']:.1f}",
            )
        )
    return table(
        ("service", "requests/s", "rounds", "p50 ms", "p99 ms", "CPU µs", "x expert", "by CPU", "x tutorial"), rows
    )


def _lists(titles: Mapping[str, str], medians: Mapping[str, Figures]) -> str:
    rows = []
    for name, title in titles.items():
        if "rows_1000" in medians[name]:
            cells = [title]
            for column in ("rows_100", "rows_1000", "rows_10000"):
                figure = medians[name][column]
                cells += [f"{figure:,.0f}", f"{figure / medians['tutorial'][column]:.1f}"]
            cells += [f"{medians[name][column]:.2f}" for column in ("p99_ms", "p99_beside_lists_ms")]
            rows.append(cells)
    lists = (header for rows in ("100", "1,000", "10,000") for header in (f"rows/s, lists of {rows}", "x tutorial"))
    return table(("service", *lists, "one-row p99 ms", "beside lists"), rows)


def _memory(titles: Mapping[str, str], medians: Mapping[str, Figures]) -> str:
    columns = ("rss_mb", "pss_mb", "rss_after_lists_mb", "start_seconds", "replacement_seconds")
    rows = [
        (title, *(_optional(medians[name].get(column), 2 if column.endswith("seconds") else 0) for column in columns))
        for name, title in titles.items()
    ]
    return table(("service", "RSS", "PSS", "RSS after lists", "start s", "replacement s"), rows)


def _optional(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _in_process(timings: Figures) -> str:
    titles = {
        "orjson": "`orjson.loads` of a record",
        "encode": "encode it",
        "predict": "predict it, 150 trees",
        "record_to_probability": "record to probability: encode and predict, 150 trees, 200 different records in turn",
        "same_record_to_probability": "the same for one record repeatedly: the CPU learns which way each tree branches",
        "make_prediction": "`make_prediction`, the served model",
        "wsgi_service": "WSGI callable: Tabserve, `/output/credit`",
        "wsgi_service_user": "the same with `AUTH_REQUIRED`, for a user",
        "wsgi_floor": "WSGI callable: floor",
        "wsgi_floor_orjson": "WSGI callable: floor with orjson and a plain Response",
    }
    return table(("what", "µs"), [(title, f"{timings[name]:.1f}") for name, title in titles.items()])


def environment(model: str, load_before: float, load_after: float) -> str:
    """What was measured, and where."""
    cpu = next((line.split(":")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True)  # exits with 1 after printing its version
    load = f"load average {load_before:.1f} before, {load_after:.1f} after"
    rows = [
        ("machine", f"{os.cpu_count()} cores, {cpu.strip()}; {load}"),
        ("cores", f"services on {SERVER_CORE}, clients on {DRIVER_CORE}"),
        ("system", f"{platform.system()} {platform.release()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}"),
        ("model", model),
        ("Python", platform.python_version()),
        ("wrk", (wrk.stdout + wrk.stderr).split(" [")[0].removeprefix("wrk ")),
        *((package, version(package)) for package in PACKAGES),
    ]
    return table(("what", "value"), rows)


def _lines(path: str) -> Sequence[str]:
    return Path(path).read_text().splitlines()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
