"""What `make scale` writes: growth with rows, targets, limits, and what is beyond."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from benchmarks.report import table

Curve = dict[int, dict[str, float]]  # by number of rows: CPU seconds and peak MB
AIM = 1.1  # the largest exponent of time
BEYOND = 100_000_000  # rows, on paper
SOON = 600  # seconds in which cores together finish on paper
MEMORY = 16  # GB of the machine on paper
CONSTANT = 50  # MB a million rows: below, memory does not grow with rows
MOST_TO_SCORE = 300  # MB
# target: (its step, one that is left out of the count, and µs a row)
TARGETS: Mapping[str, tuple[str, str, float]] = {
    "CSV upload, answered as JSON, without the trees": ("upload CSV: LightGBM", "trees: LightGBM", 3),
    "CSV upload, answered as JSON": ("upload CSV: LightGBM", "", 8),
    "XLSX: read, check, encode": ("read XLSX, check, encode", "", 25),
    "XLSX upload, answered as JSON": ("upload XLSX: LightGBM", "", 25),
    "Parquet to Parquet, LightGBM": ("score Parquet to Parquet: LightGBM", "", 7),
    "Parquet to Parquet, interpreted trees": ("score Parquet to Parquet: interpreted", "", 7),
    "Parquet to Parquet, compiled trees": ("score Parquet to Parquet: compiled", "", 2),
}
PEERS = ("pandas and Booster.predict", "polars and Booster.predict")
PATHS = (  # what is worked out for BEYOND rows
    "score Parquet to Parquet: LightGBM",
    "score Parquet to Parquet: compiled",
    "score CSV to CSV: interpreted",
    *PEERS,
    "training: read, split, encode",
    "training: one trial",
    "training: final fit, 100 trees",
)


def exponent(curve: Curve, name: str) -> float | None:
    """The exponent of growth with rows, by least squares on logarithms; None for fewer than two sizes."""
    if len(curve) < 2:
        return None
    values = [max(one[name], 1e-6) for one in curve.values()]
    return float(np.polyfit(np.log(list(curve)), np.log(values), 1)[0])


def line(curve: Curve, name: str) -> tuple[float, float]:
    """What a value is without rows, and what each row adds, from the two largest sizes: buffers are full by then."""
    fewer, most = sorted(curve)[-2:] if len(curve) > 1 else (0, max(curve))
    slope = (curve[most][name] - curve[fewer][name]) / (most - fewer) if fewer else 0.0
    return curve[most][name] - slope * most, slope


def beyond(curve: Curve, rows: int) -> tuple[float, float]:
    """CPU seconds and peak MB at more rows than were measured: by the exponent, at least 1, and on a line."""
    most = max(curve)
    seconds = curve[most]["cpu"] * (rows / most) ** max(exponent(curve, "cpu") or 1.0, 1.0)
    start, slope = line(curve, "peak")
    return seconds, max(start + slope * rows, curve[most]["peak"]) if slope * 1e6 >= CONSTANT else curve[most]["peak"]


def micros(curve: Curve) -> float:
    """µs a row at the largest size."""
    most = max(curve)
    return curve[most]["cpu"] / most * 1e6


def document(curves: Mapping[str, Curve], environment: Mapping[str, str], sizes: Sequence[int], rounds: int) -> str:
    """Write up all measurements as Markdown.

    Parameters
    ----------
    curves : mapping
        CPU seconds and peak MB of each step, by rows.
    environment : mapping
        What was measured, and where.
    sizes : sequence of int
        Rows of the tables, ascending.
    rounds : int
        Measurements that each figure is the median of.
    """
    measured = {step: curve for step, curve in curves.items() if curve}
    return "\n\n".join(
        [
            "# Scale",
            f"Written by `make scale` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, medians of {rounds} round(s). Each "
            "figure comes from a process of its own on one core: CPU seconds, its child's included, after the "
            "same work was done on 1,000 rows; and the peak memory of the process, or of "
            "its child if that has more, Python and libraries included. The tables are random "
            "rows of the credit declaration.",
            table(("what", "value"), environment.items()).rstrip(),
            "## Time",
            "CPU seconds. The exponent is that of rows, by least squares on logarithms; at most 1.1 is the aim. A "
            "fixed cost, such as the start of the child that reads workbooks, makes it smaller.",
            _growth(measured, sizes, "cpu", 2),
            "## Memory",
            "Peak MB.",
            _growth(measured, sizes, "peak", 0),
            "## Targets",
            f"At the largest size that was measured. Scoring should also take less than {MOST_TO_SCORE} MB.",
            _targets(measured),
            "## What breaks beyond",
            _limits(measured),
            f"## {BEYOND:,} rows, on paper",
            "An estimate from the lines above, not a measurement: CPU by the measured exponent (at least 1) from the "
            f"largest size, memory on a line. A machine has {MEMORY} GB. Cores and machines share scoring where the "
            "table stands in files: with a million rows each, a core needs the memory of that size above, at any "
            "number of rows. Training needs one machine; its folds and trials can be shared, its matrix cannot.",
            _estimate(measured),
        ]
    )


def _growth(curves: Mapping[str, Curve], sizes: Sequence[int], name: str, digits: int) -> str:
    last = "µs a row" if name == "cpu" else "MB a million rows more"
    header = ("step", *(f"{rows:,} rows" for rows in sizes), last, "exponent")
    rows = []
    for step, curve in curves.items():
        each = [f"{curve[size][name]:,.{digits}f}" if size in curve else "" for size in sizes]
        growth = exponent(curve, name)
        more = micros(curve) if name == "cpu" else line(curve, name)[1] * 1e6
        rows.append((step, *each, f"{more:,.2f}" if name == "cpu" else f"{more:,.0f}", _exponent(growth, name)))
    return table(header, rows).rstrip()


def _exponent(growth: float | None, name: str) -> str:
    if growth is None:
        return ""
    return f"**{growth:.2f}**" if name == "cpu" and growth > AIM else f"{growth:.2f}"


def _targets(curves: Mapping[str, Curve]) -> str:
    rows = []
    for what, (step, without, aim) in TARGETS.items():
        if step in curves and (not without or without in curves):
            found = micros(curves[step]) - (micros(curves[without]) if without else 0)
            most = max(curves[step])
            is_light = not step.startswith("score") or curves[step][most]["peak"] <= MOST_TO_SCORE
            verdict = "missed" if found > aim else "reached" if is_light else "reached, but for memory"
            rows.append((what, f"{most:,}", f"{aim:g}", f"{found:.2f}", f"{curves[step][most]['peak']:.0f}", verdict))
    for peer in PEERS:
        if peer in curves:
            most = max(curves[peer])
            rows.append((peer, f"{most:,}", "", f"{micros(curves[peer]):.2f}", f"{curves[peer][most]['peak']:.0f}", ""))
    return table(("what", "rows", "aim, µs a row", "measured", "peak MB", ""), rows).rstrip()


def _limits(curves: Mapping[str, Curve]) -> str:
    lines = [
        "- A sheet of a workbook holds 1,048,576 rows; the service answers at most `MAX_ROWS` in one table.",
    ]
    growing = []
    for step, curve in curves.items():
        start, slope = line(curve, "peak")
        if slope * 1e6 >= CONSTANT and "XLSX" not in step:  # a sheet ends before
            rows = int((MEMORY * 1000 - start) / slope)
            growing.append((step, f"{float(f'{rows:.2g}'):,.0f}"))
    lines.append(
        f"- Where memory grows by less than {CONSTANT} MB a million rows, which is what two measurements differ by, it "
        f"counts as constant. In these steps it grows; {MEMORY} GB are full at about:"
    )
    return "\n".join(lines) + "\n\n" + table(("step", "rows"), growing).rstrip()


def _estimate(curves: Mapping[str, Curve]) -> str:
    rows = []
    for step in PATHS:
        if step in curves:
            seconds, peak = beyond(curves[step], BEYOND)
            cores = f"{math.ceil(seconds / SOON)}" if step.startswith("score") else ""
            fits = "yes" if peak <= MEMORY * 1000 else "no"
            rows.append((step, f"{seconds / 3600:.2f}", f"{peak / 1000:,.1f}", fits, cores))
    return table(("step", "CPU hours", "peak GB in one piece", f"fits {MEMORY} GB", "cores for ten minutes"), rows)
