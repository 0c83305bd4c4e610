"""The report as a page: the verdict first, then how good the model is and how it was made, and the model card."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tabserve.aliases import Predictions
from tabserve.charts import figures
from tabserve.charts.pages import render_page
from tabserve.charts.parts import (
    NOTHING,
    PART_NAMES,
    Chart,
    ReportTable,
    Section,
    listed,
    metric_name,
    number,
    share,
)
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.fairness import FEWEST
from tabserve.evaluation.metrics import CHRONOLOGICAL, CROSS_VALIDATION, HOLD_OUT, TRAIN
from tabserve.registry.manifest import Manifest, ProtectedComparison
from tabserve.report import card
from tabserve.report.measures import Importance, contributions, learning_curve, own_importance, permutation_importance
from tabserve.report.subject import Subject
from tabserve.tasks.results import Results

if TYPE_CHECKING:
    from tabserve.training.candidate import Candidate
    from tabserve.training.parts import Part

SHOWN = 12  # columns in a chart of importances
MEASURES = {
    "gain": "How much the trees' splits by each column improved the fit in all, as a share of the whole.",
    "coefficient": "The size of each column's coefficients, times how much the column varies, as a share of the whole.",
}
GROUP_WORDS = {
    "rows": "Rows",
    "share_of_1": "Share of events",
    "selection_rate": "Favourable decisions",
    "opportunity": "Favourable, of those without the event",
    "mean_score": "Mean probability",
}


def render_report(
    use_case: UseCase,
    manifest: Manifest,
    candidate: "Candidate",
    train: "Part",
    test: "Part",
    predictions: Predictions,
) -> str:
    """Write the report of a model.

    Parameters
    ----------
    use_case : UseCase
        What it was trained for.
    manifest : Manifest
        What will be saved with the model, its gates included. The report leaves out what is missing there, and the
        figures of small groups.
    candidate : Candidate
        The fitted model, and how it was tuned.
    train, test : Part
        The training part and the hold-out.
    predictions : ndarray, shape (n_hold_out_rows,) or (n_hold_out_rows, n_classes)
        The model's predictions of the hold-out.

    Returns
    -------
    str
        HTML that loads nothing. The same arguments give the same text.
    """
    subject = Subject(use_case, manifest.publishable(), candidate, train, test, predictions)
    gates = subject.manifest.gates
    importance = permutation_importance(subject)
    summary, sections = use_case.task.report(_results(subject, importance))
    return render_page(
        "report.html",
        Path(__file__).parent,
        title=f"{use_case.title}: {manifest.algorithm}",
        description=use_case.description,
        model_id=manifest.model_id,
        failed=[gate for gate in gates if not (gate.passed or gate.accepted)],
        accepted=[gate.accepted for gate in gates if gate.accepted],
        gates=gates,
        verdict=subject.manifest.verdict,
        doubts=subject.manifest.doubts,
        number=number,
        summary=[*summary, *_further(subject, importance)],
        sections=[
            Section("Metrics", tables=[_metrics(subject)]),
            *sections,
            _what_it_looks_at(subject, importance),
            _comparison(subject),
            *_groups(subject),
            _making(subject),
            *card.sections(subject),
        ],
    )


def _results(subject: Subject, importance: Importance) -> Results:
    """What the task's own part of the report is made from."""
    return Results(
        target=subject.use_case.target,
        decision=subject.candidate.decision,
        y=subject.test.y,
        predictions=subject.predictions,
        table=subject.features_of(subject.test),
        metrics=subject.manifest.metrics[HOLD_OUT],
        intervals=subject.manifest.intervals,
        train_y=subject.train.y,
        out_of_fold=subject.candidate.out_of_fold,
        columns=importance.columns,
    )


def _further(subject: Subject, importance: Importance) -> list[str]:
    """What the summary says about every model."""
    manifest, name = subject.manifest, metric_name(subject.headline)
    sentences = []
    if CHRONOLOGICAL in manifest.metrics:
        sentences.append(
            f"Fitted on the first rows and asked about the last, as in service, it has {name} "
            f"{subject.metric(CHRONOLOGICAL)}: expect this rather than the figure above."
        )
    if manifest.baseline != manifest.algorithm:
        baseline = manifest.comparison[manifest.baseline][CROSS_VALIDATION][subject.headline]
        sentences.append(
            f"In cross-validation it has {name} {subject.metric(CROSS_VALIDATION)}, and the baseline "
            f"{manifest.baseline} {number(baseline)}."
        )
    if importance.values[0] > 0:
        most = [
            f"“{column.title}”"
            for column, value in zip(importance.columns, importance.values, strict=True)
            if value > 0
        ]
        sentences.append(f"It depends most on {listed(most[:3])}.")
    return sentences


def _metrics(subject: Subject) -> ReportTable:
    """Every metric by part, with the hold-out's interval and the gap."""
    metrics, intervals = subject.manifest.metrics, subject.manifest.intervals
    rows = []
    for name in metrics[TRAIN]:
        gap = number(metrics[TRAIN][name] - metrics[HOLD_OUT][name])
        interval = " to ".join(map(number, intervals[name])) if name in intervals else NOTHING
        rows.append([metric_name(name), *(number(part[name]) for part in metrics.values()), interval, gap])
    parts = [PART_NAMES.get(part, part) for part in metrics]
    caption = (
        "Metrics by the rows that they were measured on. The hold-out counts; training part and cross-validation "
        "flatter, since the model was fitted and chosen by them."
    )
    return ReportTable(
        caption, ["Metric", *parts, "95 % interval of the hold-out", "Training part minus hold-out"], rows
    )


def _what_it_looks_at(subject: Subject, importance: Importance) -> Section:
    charts = [_permutation(subject, importance)]
    text = ["What the model's answers depend on. This does not prove what causes what."]
    own = own_importance(subject)
    if own:
        charts.append(_own(*own))
    else:
        text.append("This kind of model has no importances of its own.")
    parts = contributions(subject)
    if parts:
        charts.append(_contributions(subject, *parts))
    else:
        text.append("Its predictions are not sums over the columns, so there are no contributions to show.")
    return Section("What it looks at", [" ".join(text)], charts)


def _permutation(subject: Subject, importance: Importance) -> Chart:
    name = metric_name(subject.headline)
    shown = importance.columns[:SHOWN]
    assert importance.errors is not None
    svg = figures.bars(
        "permutation",
        [column.title for column in shown],
        importance.values[:SHOWN],
        f"fall of {name}",
        importance.errors[:SHOWN],
    )
    falls = [
        f"{column.title} ({number(float(value))})" for column, value in zip(shown[:3], importance.values, strict=False)
    ]
    return Chart(
        "Permutation importance",
        svg,
        f"{name} on the hold-out falls most without {listed(falls)}.",
        f"How much {name} falls when a feature's values are shuffled among the rows; lines show how much that varies. "
        "Features that tell the same story stand in for each other and seem less important than they are."
        f"{_on_a_sample(subject, importance)}",
    )


def _own(measure: str, importance: Importance) -> Chart:
    shown = importance.columns[:SHOWN]
    parts = [f"{column.title} ({share(value)})" for column, value in zip(shown[:3], importance.values, strict=False)]
    title = "Gain importance" if measure == "gain" else "Size of the coefficients"
    return Chart(
        title,
        figures.bars("own", [column.title for column in shown], importance.values[:SHOWN], "share of the whole"),
        f"The largest shares have {listed(parts)}.",
        f"{MEASURES[measure]} It is measured on the training part, and so flatters columns with many values.",
    )


def _contributions(subject: Subject, importance: Importance, directions: Mapping[str, str]) -> Chart:
    shown = importance.columns[:SHOWN]
    labels = [f"{column.title} {directions[column.name]}".strip() for column in shown]
    up = [column.title for column in shown if directions[column.name] == "↑"][:3]
    down = [column.title for column in shown if directions[column.name] == "↓"][:3]
    sentences = [f"{shown[0].title} moves the raw score most, by {number(float(importance.values[0]))} on average."]
    sentences += [f"Higher values of {listed(up)} push it up."] if up else []
    sentences += [f"Higher values of {listed(down)} push it down."] if down else []
    return Chart(
        "Contributions",
        figures.bars("contributions", labels, importance.values[:SHOWN], "mean size of the contribution"),
        " ".join(sentences),
        "How much each column moves the raw score of a row of the hold-out, on average. ↑: higher values push it up; "
        f"↓: they push it down; neither: it depends.{_on_a_sample(subject, importance)}",
    )


def _on_a_sample(subject: Subject, importance: Importance) -> str:
    """On how many rows it was measured, as a sentence with a space before it; empty when on the whole hold-out."""
    every = len(subject.test.y)
    if importance.rows in (None, every):
        return ""
    return f" Measured on {importance.rows:,} of the {every:,} rows of the hold-out, drawn at random."


def _comparison(subject: Subject) -> Section:
    """The algorithms of the same training, and the model that answered before."""
    manifest, headline = subject.manifest, subject.headline
    name = metric_name(headline)
    comparison = manifest.comparison
    names = sorted(comparison, key=lambda one: -comparison[one][CROSS_VALIDATION][headline])
    parts = [part for part in PART_NAMES if part != TRAIN and part in comparison[names[0]]]
    labels = [f"{one}*" if one == manifest.baseline else one for one in names]
    values = {PART_NAMES[part]: [comparison[one][part][headline] for one in names] for part in parts}
    chart = Chart(
        "Algorithms",
        figures.dots("algorithms", labels, values, name),
        " ".join(
            f"{label}: {', '.join(f'{part} {number(numbers[place])}' for part, numbers in values.items())}."
            for place, label in enumerate(labels)
        ),
        f"{name} of all algorithms of this training; further right is better. * the baseline.",
    )
    differences = {f"the baseline {manifest.baseline}": manifest.baseline_difference}
    champion = manifest.champion
    if champion:
        differences[f"the model that answered before, {champion.model_id}"] = champion.difference
    rows = [
        [metric_name(metric), f"than {other}", number(value), f"{number(low)} to {number(high)}"]
        for other, by_metric in differences.items()
        for metric, (value, low, high) in by_metric.items()
    ]
    caption = "Differences on the hold-out. An interval that contains 0 means that the difference may be chance."
    table = ReportTable(caption, ["Metric", "How much better", "Difference", "95 % interval"], rows)
    return Section("Comparison", charts=[chart], tables=[table] if rows else [])


def _groups(subject: Subject) -> list[Section]:
    """How groups of people fare, where the manifest says so."""
    groups = subject.manifest.groups
    features = {feature.name: feature for feature in subject.use_case.features}
    tables = []
    text = ["How the decisions on the hold-out treat groups of people. Figures of a group with few rows say little."]
    for name, comparison in groups.items():
        values = comparison.values
        metrics = list(dict.fromkeys(metric for group in values.values() for metric in group))
        title = features[name].title if name in features else name
        ratio, difference = (
            "withheld" if comparison.withheld else number(one)
            for one in (comparison.disparate_impact, comparison.equal_opportunity_difference)
        )
        caption = (
            f"{title}: disparate impact {ratio} (smallest share of favourable decisions divided by the largest), "
            f"equal-opportunity difference {difference}"
        )
        rows = [
            [group, *(_in_group(metric, found.get(metric)) for metric in metrics)] for group, found in values.items()
        ]
        if comparison.withheld:
            rows.append([f"{comparison.withheld} withheld", *(NOTHING for _ in metrics)])
        tables.append(
            ReportTable(caption, ["Group", *(GROUP_WORDS.get(one, metric_name(one)) for one in metrics)], rows)
        )
    if any(comparison.withheld for comparison in groups.values()):
        text.append(
            f"Anyone may read this page: groups that would reveal fewer than {FEWEST} rows are withheld, and so are "
            "ratios that rest on them. They are in the model's manifest."
        )
    protected = subject.manifest.protected
    if protected:
        tables.append(_protected(protected))
    return [Section("Groups of people", text if groups else (), tables=tables)] if tables else []


def _in_group(metric: str, value: float | None) -> str:
    return number(int(value)) if metric == "rows" and value is not None else number(value)


def _protected(protected: ProtectedComparison) -> ReportTable:
    verb = "does not use" if protected.excluded else "uses"
    caption = (
        f"{metric_name(protected.metric)} with and without the protected columns "
        f"({', '.join(protected.columns)}). This model {verb} them."
    )
    rows = [
        [f"{how} them", *(number(metrics[part]) for part in (CROSS_VALIDATION, HOLD_OUT))]
        for how, metrics in (("with", protected.with_), ("without", protected.without))
    ]
    return ReportTable(caption, ["Model", PART_NAMES[CROSS_VALIDATION], PART_NAMES[HOLD_OUT]], rows)


def _making(subject: Subject) -> Section:
    """Tuning and the learning curve."""
    charts, text = [], list(subject.manifest.search_notes)
    if len(subject.manifest.trials) > 1:
        charts.append(_tuning(subject))
    else:
        text.append("Nothing was tuned: the parameters are those of the declaration.")
    charts.append(_learning(subject))
    return Section("How it was made", text, charts)


def _tuning(subject: Subject) -> Chart:
    trials = [trial.score for trial in subject.manifest.trials]
    best = [max(trials[: place + 1]) for place in range(len(trials))]
    numbers = list(range(1, len(trials) + 1))
    name = metric_name(subject.headline)
    svg = figures.lines(
        "tuning",
        [
            figures.Series("a trial", numbers, trials, line="", marker="o"),
            figures.Series("best so far", numbers, best, figures.B, step=True),
        ],
        "trial",
        f"{name}, cross-validated",
    )
    return Chart(
        "Tuning history",
        svg,
        f"The best of {len(trials)} trials is number {trials.index(best[-1]) + 1}, with {number(best[-1])}; the first "
        f"had {number(trials[0])}.",
        "Each trial is a set of parameters, tried on the training part alone. A line that has long been flat says that "
        "more trials would hardly help.",
    )


def _learning(subject: Subject) -> Chart:
    points = learning_curve(subject)
    name = metric_name(subject.headline)
    svg = figures.lines(
        "learning",
        [figures.Series("", [point.rows for point in points], [point.score for point in points], marker="o")],
        "rows fitted on",
        f"{name} on rows left out",
        logarithmic=True,
    )
    first, last = points[0], points[-1]
    return Chart(
        "Learning curve",
        svg,
        f"Fitted on {first.rows:,} rows the model has {name} {number(first.score)} on rows left out, on {last.rows:,} "
        f"rows {number(last.score)}.",
        "Inside the training part, with the parameters that were chosen. Where the curve still rises at its end, more "
        "data would help. The last point is the best trial's own, and flatters a little.",
    )
