"""What a report shows about a model of two classes."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from tabserve.aliases import Vector
from tabserve.charts import figures
from tabserve.charts.groups import calibration
from tabserve.charts.parts import NOTHING, Chart, ReportTable, Section, metric_name, number, share
from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category
from tabserve.tasks.base import pooled
from tabserve.tasks.binary import Binary, Threshold, threshold_of
from tabserve.tasks.results import Results
from tabserve.transformers import RemapTarget, Target

CHOICES = {"cost": "cheapest, by the costs of errors", "half": "one half", "roc_balanced": "ROC-balanced"}
GRID = np.linspace(0, 1, 201)  # thresholds of the cost curve


def event_of(target: Target) -> str:
    """What the prediction is the probability of, such as `default = 2`."""
    if isinstance(target, RemapTarget):
        labels = [label for label, of in target.classes.items() if of == 1]
    elif isinstance(target.feature, Boolean):
        labels = [target.feature.words[1]]
    else:
        labels = list(target.feature.values[1:]) if isinstance(target.feature, Category) else [1]
    return f"{target.feature.name} = {' or '.join(map(str, labels))}"


def summary(task: Binary, results: Results) -> list[str]:
    """The model's quality in sentences."""
    target, auc = results.target, results.metrics["roc_auc"]
    (caught, missed), (alarms, passed) = _outcomes(results)
    cost, none, everyone = _costs(task, results)
    return [
        f"It predicts the probability of the event “{event_of(target)}” ({target.feature.description}).",
        f"On the {len(results.y):,} rows of the hold-out, which it never saw, ROC AUC is "
        f"{number(auc)}{results.within('roc_auc')}: in {100 * auc:.0f} of 100 pairs of a row with the event and a row "
        "without, it gives the row with the event the higher probability.",
        f"At the threshold {number(threshold_of(results.decision).value)} it catches {caught:.0f} of "
        f"{caught + missed:.0f} events, and wrongly flags {alarms:.0f} of the {alarms + passed:.0f} other "
        f"rows. Errors cost {number(cost)} a row; without a model they would cost {number(min(none, everyone))}.",
    ]


def sections(task: Binary, results: Results) -> list[Section]:
    """How well probabilities rank and mean what they say, and what the decisions made from them cost."""
    event = event_of(results.target)
    return [
        Section(
            "Probabilities",
            [f"How well probabilities tell rows with the event “{event}” from the others, on the hold-out."],
            [_roc(results), _precision_recall(results), _calibration(results), _distributions(results)],
        ),
        Section(
            "Decisions",
            [
                "A row whose probability reaches the threshold is taken for the event. The threshold was chosen on "
                "probabilities of training rows by models that had not seen them; the hold-out only shows what it "
                "leads to."
            ],
            [_confusion(results), _cost_curve(task, results)],
            [_thresholds(task, results)],
        ),
    ]


def _roc(results: Results) -> Chart:
    false_rate, true_rate, _ = roc_curve(results.y, results.predictions)
    alarms_at_80 = float(np.interp(0.8, true_rate, false_rate))
    svg = figures.lines(
        "roc",
        [
            figures.Series("this model", false_rate, true_rate),
            figures.Series("guessing", [0, 1], [0, 1], figures.MUTED, "--"),
        ],
        "share of other rows taken for events",
        "share of events caught",
        x_limits=(-0.02, 1.02),
        y_limits=(-0.02, 1.02),
    )
    return Chart(
        "ROC curve",
        svg,
        f"The area under the curve is {results.metric('roc_auc')}{results.within('roc_auc')}. Catching 80 % of the "
        f"events means wrongly flagging {share(alarms_at_80)} of the other rows.",
        "Each threshold is a point: the further the curve bends to the upper left, the better events are told from "
        "the rest.",
    )


def _precision_recall(results: Results) -> Chart:
    precision, recall, _ = precision_recall_curve(results.y, results.predictions)
    rate = float(results.y.mean())
    svg = figures.lines(
        "pr",
        [
            figures.Series("this model", recall, precision),
            figures.Series("guessing", [0, 1], [rate, rate], figures.MUTED, "--"),
        ],
        "recall: share of events caught",
        "precision: share that are events",
        x_limits=(-0.02, 1.02),
        y_limits=(-0.02, 1.05),
    )
    at_half = float(np.interp(0.5, recall[::-1], precision[::-1]))
    return Chart(
        "Precision and recall",
        svg,
        f"The area under the curve is {results.metric('pr_auc')}; guessing would give {number(rate)}. Where "
        f"half of the events are caught, {share(at_half)} of the rows taken for events are events.",
        "To the right more events are caught; the higher the curve stays, the fewer false alarms that takes.",
    )


def _calibration(results: Results) -> Chart:
    said, happened = calibration(results.y, results.predictions).T
    worst = int(np.argmax(np.abs(said - happened)))
    end = 1.08 * max(said.max(), happened.max())
    svg = figures.lines(
        "calibration",
        [
            figures.Series("this model", said, happened, line="-", marker="o"),
            figures.Series("exactly right", [0, end], [0, end], figures.MUTED, "--"),
        ],
        "mean probability",
        "share of events",
        x_limits=(-0.02, end),
        y_limits=(-0.02, end),
    )
    return Chart(
        "Calibration",
        svg,
        f"The Brier score is {results.metric('brier')} (0 is perfect). In the group of rows that is furthest off, the "
        f"mean probability is {number(float(said[worst]))}, and {share(happened[worst])} are events.",
        "Rows grouped by their probability, in groups of equal size. On the dashed line, probabilities are right: of "
        "rows with 0.3, three in ten are events. With few rows the points scatter around it by chance.",
    )


def _distributions(results: Results) -> Chart:
    y, probabilities = results.y, results.predictions
    edges = np.linspace(0, 1, 21)
    groups = {"events": probabilities[y == 1], "others": probabilities[y == 0]}
    shares = {label: np.histogram(group, edges)[0] / max(len(group), 1) for label, group in groups.items()}
    svg = figures.histogram(
        "probabilities", edges, shares, "probability", [("threshold", threshold_of(results.decision).value)]
    )
    middle = {label: number(float(np.median(group))) for label, group in groups.items()}
    return Chart(
        "Distributions of the probabilities",
        svg,
        f"The median probability is {middle['events']} of events and {middle['others']} of other rows; the largest "
        f"distance between the two distributions (KS) is {results.metric('ks')}.",
        "How the probabilities of the two kinds of rows are distributed. The less they overlap, the easier the "
        "decision.",
    )


def _confusion(results: Results) -> Chart:
    counts = _outcomes(results)
    names = (("caught", "missed"), ("false alarms", "left alone"))
    notes = [
        [f"{name}, {share(count / max(row.sum(), 1))}" for name, count in zip(words, row, strict=True)]
        for words, row in zip(names, counts, strict=True)
    ]
    svg = figures.matrix("confusion", counts, ("events", "others"), ("taken for events", "taken for others"), notes)
    (caught, missed), (alarms, passed) = counts
    return Chart(
        f"Decisions at the threshold {number(threshold_of(results.decision).value)}",
        svg,
        f"Of {caught + missed:.0f} events {caught:.0f} are caught and {missed:.0f} missed; of {alarms + passed:.0f} "
        f"other rows {alarms:.0f} are false alarms and {passed:.0f} are left alone.",
        "Rows of the hold-out by what they are (left) and what they are taken for (below); percentages of each row.",
    )


def _cost_curve(task: Binary, results: Results) -> Chart:
    threshold = threshold_of(results.decision).value
    cost, none, everyone = _costs(task, results)
    svg = figures.lines(
        "cost",
        [
            figures.Series("hold-out", GRID, _curve(task, results.y, results.predictions)),
            figures.Series(
                "out of fold", GRID, _curve(task, *pooled(results.train_y, results.out_of_fold)), figures.B, "--"
            ),
        ],
        "threshold",
        "mean cost of a row",
        [("chosen", threshold), ("one half", 0.5)],
        (0, 1),
    )
    half = task.cost.expected(results.y, Threshold(0.5).decide(results.predictions))
    return Chart(
        "Cost by threshold",
        svg,
        f"On the hold-out, the chosen threshold {number(threshold)} costs {number(cost)} a row and one half "
        f"{number(half)}; taking every row for the event costs {number(everyone)} (left end), taking none "
        f"{number(none)} (right end).",
        f"A missed event costs {task.cost.missed:g}, a false alarm {task.cost.false_alarm:g}. The threshold was chosen "
        "where the dashed curve is lowest.",
    )


def _thresholds(task: Binary, results: Results) -> ReportTable:
    decision = threshold_of(results.decision)
    cuts = [
        (f"{_choice(name)}{' (chosen)' if name == decision.chosen_by else ''}", value, number(value))
        for name, value in decision.alternatives.items()
    ]
    cuts += [("every row taken for the event", 0.0, NOTHING), ("no row taken for the event", np.inf, NOTHING)]
    found = [task.decision_metrics(results.y, Threshold(value).decide(results.predictions)) for _, value, _ in cuts]
    rows = [[label, shown, *map(number, of.values())] for (label, _, shown), of in zip(cuts, found, strict=True)]
    caption = "Thresholds, and what they lead to on the hold-out"
    return ReportTable(caption, ["Threshold", "Value", *map(metric_name, found[0])], rows)


def _choice(name: str) -> str:
    return CHOICES.get(name, name.replace("_", " "))


def _outcomes(results: Results) -> Vector:
    """Counts of the hold-out's rows: events and others (rows) by what they are taken for (columns)."""
    decisions = results.decision.decide(results.predictions)
    return np.array([[np.sum((results.y == of) & (decisions == taken)) for taken in (1, 0)] for of in (1, 0)])


def _costs(task: Binary, results: Results) -> tuple[float, float, float]:
    """What a row of the hold-out costs at the threshold, taking none for an event, and taking all."""
    cost, y = task.cost, results.y
    none = cost.expected(y, np.zeros(len(y)))
    return results.metrics["expected_cost"], none, cost.expected(y, np.ones(len(y)))


def _curve(task: Binary, y: Vector, probabilities: Vector) -> Vector:
    return np.array([task.cost.expected(y, Threshold(value).decide(probabilities)) for value in GRID])
