"""What monitoring found, as a page and as lines for a terminal; both are made from a result as plain data."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tabserve.charts.pages import render_page
from tabserve.charts.parts import NOTHING, ReportTable, Section, metric_name, number, share
from tabserve.charts.small import paired_bars
from tabserve.evaluation.drift import TOO_FEW

Plain = Mapping[str, Any]  # as `Monitored.to_json` gives it, or a part of it

ARM_HEAD = ("Difference", "Matters from", "Smallest visible", "Verdict")
COLUMN_HEAD = ("Column", "Verdict", "PSI", "By chance", "Smallest visible", "Missing", "Other")
MONTH_HEAD = ("Month", "Decisions", "Outcomes known", "Drifted", "Decided", "Refused records")
MARKS = {"passed": "✓", "failed": "✗"}
ADVICE = (
    "Drift is said of a PSI that is at least 0.2 beyond chance, where chance alone would make a false alarm on one "
    "page in a hundred; watch, from 0.1 on. By chance is the PSI to expect where nothing changed. Below the smallest "
    "visible PSI, which follows from the rows, nothing can be told from chance. Missing is the share of values that "
    "are missing now, and Other of those treated as the declared other. Of each pair of bars the left one, grey, is "
    "the training's share of a bin, and the right one today's."
)


ARMS = (
    "Each arm is compared with the first in the time that it has decisions of. Intervals of figures cover 95 % each, "
    "those of differences 95 % together. Arms are different where a difference is more than chance and large enough to "
    "matter, and alike where all of the interval is smaller than that."
)


def render(results: Sequence[Plain], live: Sequence[Section] = ()) -> str:
    """A page of one or several results, in the report's look; it loads nothing.

    Parameters
    ----------
    results : sequence of mapping
        As `Monitored.to_json` gives them.
    live : sequence of Section
        What comes before them.

    Returns
    -------
    str
    """
    return render_page(
        title="Monitoring",
        description="What models meet and decide, beside what they were trained on and what came of it.",
        sections=[*live, *(section for result in results for section in sections(result))],
    )


def sections(result: Plain) -> Iterator[Section]:
    """The parts of a page about a result."""
    name, whole = result["use_case"], result["windows"][-1]
    yield Section(f"{name}: what to look at", [*heading(result)], points=[_found(one) for one in result["findings"]])
    yield Section(f"{name}: drift", [ADVICE], tables=[_columns(whole), *_months(result)])
    if result["arms"]:
        yield Section(f"{name}: arms", [ARMS], tables=[*_arms(result)], points=[*what_arms_tell(result)])
    tables = [*_metrics(result), *_gates(whole), *_groups(whole)]
    yield Section(f"{name}: quality", [*_about_quality(whole)], tables=tables)


def heading(result: Plain) -> Iterator[str]:
    """Sentences about what was looked at."""
    whole = result["windows"][-1]
    when = datetime.fromtimestamp(result["time"], UTC)
    yield f"{result['model_id']}, looked at on {when:%d %B %Y at %H:%M} UTC: {whole['rows']:,} decisions."
    if result["others"]:
        yield f"{result['others']:,} decisions by other models are left out."
    if not result["findings"]:
        yield _nothing(whole)


def _nothing(whole: Plain) -> str:
    """What it means that nothing was found."""
    if not whole["rows"]:
        return "The decision log holds none of this time."
    if whole["quality"]:
        return "Nothing was found: no drift, and no worse quality."
    return f"No drift was found. {whole['unjudged']}"


def terminal_tables(result: Plain) -> Iterator[list[tuple[str, ...]]]:
    """Tables for a terminal, each as its rows: the columns of the whole time, then the months."""
    whole = result["windows"][-1]
    for table in (_columns(whole, charts=False), *_months(result), *_metrics(result), *_gates(whole), *_arms(result)):
        yield [tuple(map(str, row)) for row in (table.head, *table.rows)]


def _found(finding: Plain) -> str:
    when = "" if finding["window"] == "all" else f"{finding['window']}: "
    return f"{when}{finding['sentence']}"


def _compared(window: Plain) -> list[Plain]:
    return [*window["columns"], *window["scores"], *([window["decisions"]] if window["decisions"] else [])]


def _columns(window: Plain, *, charts: bool = True) -> ReportTable:
    rows = []
    for one in _compared(window):
        drift = one["drift"]
        row = [
            one["name"],
            drift["verdict"],
            number(drift["psi"]),
            number(drift["chance"]),
            number(drift["detectable"]),
        ]
        row += [share(one["live"][-1]), NOTHING if one["other"] is None else share(one["other"])]
        rows.append([*row, paired_bars(one["training"], one["live"], _in_words(one))] if charts else row)
    head = [*COLUMN_HEAD, "Training and now"] if charts else COLUMN_HEAD
    return ReportTable("Columns, predictions and decisions beside those of the training part", head, rows)


def _in_words(one: Plain) -> str:
    shares = zip(one["bins"], one["training"], one["live"], strict=True)
    return "; ".join(f"{name}: {share(before)}, now {share(now)}" for name, before, now in shares if before or now)


def _months(result: Plain) -> Iterator[ReportTable]:
    rows = []
    for window in result["windows"][:-1]:
        drifted = [one["name"] for one in _compared(window) if one["drift"]["verdict"] == "drift"]
        rows.append(
            [
                window["name"],
                f"{window['rows']:,}",
                share(window["coverage"]),
                ", ".join(drifted) or NOTHING,
                _decided(window),
                _refused(window),
            ]
        )
    if rows:
        yield ReportTable("Months", MONTH_HEAD, rows)


def _decided(window: Plain) -> str:
    one = window["decisions"]
    if not one:
        return NOTHING
    return ", ".join(f"{name} {share(now)}" for name, now in zip(one["bins"], one["live"], strict=True) if now)


def _refused(window: Plain) -> str:
    return ", ".join(f"{fault} {times:,}" for fault, times in sorted(window["refused"].items())) or NOTHING


def _about_quality(whole: Plain) -> Iterator[str]:
    if whole["quality"]:
        yield f"By the outcomes of {whole['quality']['rows']:,} decisions; intervals cover 95 %."
    else:
        yield whole["unjudged"]
    calibration = (whole["quality"] or {}).get("calibration")
    if calibration:
        yield (
            f"Calibration error {number(calibration['error'])}; by chance, {number(calibration['chance'])} "
            "would be expected."
        )
    if any(whole["estimated"]):
        yield "Expected figures are estimates from the predictions, and true only while these are calibrated."
    else:
        yield "Nothing is estimated: the model has no probabilities of two classes, or they are not calibrated."


def _metrics(result: Plain) -> Iterator[ReportTable]:
    rows = []
    for window in result["windows"]:
        quality, expected = window["quality"], window["estimated"]
        for place, name in enumerate((quality or {"metrics": expected})["metrics"]):
            realised = NOTHING
            if quality:
                low, high = quality["intervals"][name]
                realised = f"{number(quality['metrics'][name])} ({number(low)} to {number(high)})"
            if not place or name in expected or window is result["windows"][-1]:
                rows.append([window["name"], metric_name(name), realised, number(expected.get(name))])
    if rows:
        yield ReportTable("What happened, and what is expected", ("Month", "Metric", "Realised", "Expected"), rows)


def _arms(result: Plain) -> Iterator[ReportTable]:
    arms = result["arms"]
    if not arms:
        return
    first, *others = arms
    figures = dict.fromkeys(name for arm in arms for name in arm["figures"])
    rows = [
        ["Decisions", *(f"{arm['rows']:,}" for arm in arms)],
        ["Answered by another model", *(f"{arm['elsewhere']:,}" for arm in arms)],
        ["Outcomes known", *(share(arm["coverage"]) for arm in arms)],
        *([_figure(name), *(within(arm["figures"].get(name, {"value": None})) for arm in arms)] for name in figures),
    ]
    yield ReportTable("The arms of splits", ["Figure", *(arm["model_id"] for arm in arms)], rows)
    for arm in others:
        differences = [
            [_figure(one["name"]), within(one), *(number(one[key]) for key in ("matters", "visible")), one["verdict"]]
            for one in arm["differences"]
        ]
        if differences:
            head = (f"{arm['model_id']} less {first['model_id']}", *ARM_HEAD)
            yield ReportTable("How much larger the figures of an arm are than those of the first", head, differences)


def _figure(name: str) -> str:
    return name[0].upper() + name[1:] if " " in name else metric_name(name)


def what_arms_tell(result: Plain) -> Iterator[str]:
    """Sentences about what cannot be told of arms, by the number of their decisions."""
    first, others = result["arms"][:1], result["arms"][1:]
    for arm in result["arms"]:
        if arm["unjudged"]:
            yield f"{arm['model_id']}: {arm['unjudged']}"
    for arm in others:
        decisions = f"{arm['rows']:,} decisions of {arm['model_id']} and {arm['beside']:,} of {first[0]['model_id']}"
        if not arm["differences"]:
            yield f"{decisions} at the same time are too few to compare."
        hidden = [
            f"of {one['name'] if ' ' in one['name'] else metric_name(one['name'])} below {number(one['visible'])}"
            for one in arm["differences"]
            if one["verdict"] == TOO_FEW
        ]
        if hidden:
            yield f"With {decisions} at the same time a difference {', '.join(hidden)} cannot be told from chance."


def _gates(whole: Plain) -> Iterator[ReportTable]:
    gates = (whole["quality"] or {}).get("gates")
    if gates:
        rows = [
            [gate["gate"], within(gate), number(gate["bound"]), _verdict(gate), number(gate["missing"])]
            for gate in gates
        ]
        head = ("Gate", "Value", "Bound", "Verdict", "More decisions needed")
        yield ReportTable("The declared gates, judged by what happened", head, rows)


def _verdict(gate: Plain) -> str:
    return f"{MARKS.get(gate['verdict'], '?')} {gate['verdict']}"


def within(estimate: Plain) -> str:
    """A figure with its interval."""
    if estimate["value"] is None:
        return NOTHING
    return f"{number(estimate['value'])} ({number(estimate['low'])} to {number(estimate['high'])})"


def _groups(whole: Plain) -> Iterator[ReportTable]:
    for feature, comparison in (whole["quality"] or {}).get("groups", {}).items():
        figures = ("rows", "share_of_1", "selection_rate", "roc_auc")
        rows = [[group, *(number(one[name]) for name in figures)] for group, one in comparison["values"].items()]
        ratio = f"smallest ratio of favourable decisions {number(comparison['disparate_impact'])}"
        head = ("Group", "Rows", "Share of events", "Favourable decisions", "ROC AUC")
        yield ReportTable(f"Groups by {feature}: {ratio}", head, rows)
