"""What a report shows of a model of two classes."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve
from tabserve.aliases import Vector
from tabserve.columns.features import Category
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.metrics import HOLD_OUT
from tabserve.report import figures
from tabserve.report.measures import calibration
from tabserve.report.parts import NOTHING, Chart, Section, Subject, Table, metric_name, number, share
from tabserve.tasks.binary import Classification
from tabserve.transformers import RemapTarget

CHOICES = {"cost": "cheapest, by the costs of errors", "half": "one half", "roc_balanced": "ROC-balanced"}
GRID = np.linspace(0, 1, 201)  # thresholds of the cost curve


def event_of(use_case: UseCase) -> str:
    """What the score is the probability of, such as `default = 2`."""
    target = use_case.target
    if isinstance(target, RemapTarget):
        labels = [label for label, of in target.classes.items() if of == 1]
    else:
        labels = list(target.feature.values[1:]) if isinstance(target.feature, Category) else [1]
    return f"{target.feature.name} = {' or '.join(map(str, labels))}"


def summary(subject: Subject) -> list[str]:
    """The model's quality in sentences."""
    test, use_case = subject.test, subject.use_case
    auc = subject.manifest.metrics[HOLD_OUT]["roc_auc"]
    (caught, missed), (alarms, passed) = _outcomes(subject)
    cost, none, everyone = _costs(subject)
    return [
        f"The score is the probability of the event “{event_of(use_case)}” ({use_case.target.feature.description}).",
        f"On the {len(test.y):,} rows of the hold-out, which it never saw, ROC AUC is "
        f"{number(auc)}{subject.within('roc_auc')}: of 100 pairs of a row with the event and one without, it gives the "
        f"one with the event the higher score in {100 * auc:.0f}.",
        f"At the threshold {number(_threshold(subject))} it catches {caught:.0f} of {caught + missed:.0f} "
        f"events, and takes {alarms:.0f} of {alarms + passed:.0f} other rows for one. Errors cost {number(cost)} a "
        f"row; without a model it would be {number(min(none, everyone))}.",
    ]


def sections(subject: Subject) -> list[Section]:
    """How well the scores rank and mean what they say, and what the decisions made from them cost."""
    event = event_of(subject.use_case)
    return [
        Section(
            "Scores",
            [f"How well scores tell rows with the event “{event}” from the others, on the hold-out."],
            [_roc(subject), _precision_recall(subject), _calibration(subject), _distributions(subject)],
        ),
        Section(
            "Decisions",
            [
                "A row whose score reaches the threshold is taken for the event. The threshold was chosen on scores of "
                "training rows by models that had not seen them; the hold-out only shows what it leads to."
            ],
            [_confusion(subject), _cost_curve(subject)],
            [_thresholds(subject)],
        ),
    ]


def _roc(subject: Subject) -> Chart:
    false_rate, true_rate, _ = roc_curve(subject.test.y, subject.scores)
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
        f"The area under the curve is {subject.metric(HOLD_OUT)}{subject.within('roc_auc')}. Catching 80 % of the "
        f"events means taking {share(alarms_at_80)} of the other rows for one.",
        "Each threshold is a point: the further the curve bends to the upper left, the better events are told from "
        "the rest.",
    )


def _precision_recall(subject: Subject) -> Chart:
    precision, recall, _ = precision_recall_curve(subject.test.y, subject.scores)
    rate = float(subject.test.y.mean())
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
        f"The area under the curve is {subject.metric(HOLD_OUT, 'pr_auc')}; guessing would give {number(rate)}. Where "
        f"half of the events are caught, {share(at_half)} of the rows taken for events are events.",
        "To the right more events are caught; the higher the curve stays, the fewer false alarms that takes.",
    )


def _calibration(subject: Subject) -> Chart:
    said, happened = calibration(subject.test.y, subject.scores).T
    worst = int(np.argmax(np.abs(said - happened)))
    end = 1.08 * max(said.max(), happened.max())
    svg = figures.lines(
        "calibration",
        [
            figures.Series("this model", said, happened, line="-", marker="o"),
            figures.Series("exactly right", [0, end], [0, end], figures.MUTED, "--"),
        ],
        "mean score",
        "share of events",
        x_limits=(-0.02, end),
        y_limits=(-0.02, end),
    )
    return Chart(
        "Calibration",
        svg,
        f"The Brier score is {subject.metric(HOLD_OUT, 'brier')} (0 is perfect). One group of rows is furthest off: "
        f"its mean score is {number(float(said[worst]))}, and {share(happened[worst])} of it are events.",
        "Rows in groups of like size by their score. On the dashed line, scores are probabilities: of rows scored "
        "0.3, three in ten are events. With few rows the points scatter around it by chance.",
    )


def _distributions(subject: Subject) -> Chart:
    y, scores = subject.test.y, subject.scores
    edges = np.linspace(0, 1, 21)
    groups = {"events": scores[y == 1], "others": scores[y == 0]}
    shares = {label: np.histogram(group, edges)[0] / max(len(group), 1) for label, group in groups.items()}
    svg = figures.histogram("scores", edges, shares, "score", [("threshold", _threshold(subject))])
    middle = {label: number(float(np.median(group))) for label, group in groups.items()}
    return Chart(
        "Score distributions",
        svg,
        f"The median score is {middle['events']} of events and {middle['others']} of other rows; the largest distance "
        f"between the two distributions (KS) is {subject.metric(HOLD_OUT, 'ks')}.",
        "How scores spread over the two kinds of rows. The less they overlap, the easier the decision.",
    )


def _confusion(subject: Subject) -> Chart:
    counts = _outcomes(subject)
    names = (("caught", "missed"), ("false alarms", "left alone"))
    notes = [
        [f"{name}, {share(count / max(row.sum(), 1))}" for name, count in zip(words, row, strict=True)]
        for words, row in zip(names, counts, strict=True)
    ]
    svg = figures.matrix("confusion", counts, ("events", "others"), ("taken for events", "taken for others"), notes)
    (caught, missed), (alarms, passed) = counts
    return Chart(
        f"Decisions at the threshold {number(_threshold(subject))}",
        svg,
        f"Of {caught + missed:.0f} events {caught:.0f} are caught and {missed:.0f} missed; of {alarms + passed:.0f} "
        f"other rows {alarms:.0f} are false alarms and {passed:.0f} are left alone.",
        "Rows of the hold-out by what they are (left) and what they are taken for (below); per cent of each row.",
    )


def _cost_curve(subject: Subject) -> Chart:
    task = _task(subject)
    threshold = _threshold(subject)
    out_of_fold = subject.candidate.out_of_fold
    repeated = np.tile(subject.train.y, len(out_of_fold))
    cost, none, everyone = _costs(subject)
    svg = figures.lines(
        "cost",
        [
            figures.Series("hold-out", GRID, _curve(task, subject.test.y, subject.scores)),
            figures.Series("out of fold", GRID, _curve(task, repeated, out_of_fold.ravel()), figures.B, "--"),
        ],
        "threshold",
        "mean cost of a row",
        [("chosen", threshold), ("one half", 0.5)],
        (0, 1),
    )
    half = task.cost.expected(subject.test.y, (subject.scores >= 0.5).astype(np.float64))
    return Chart(
        "Cost by threshold",
        svg,
        f"On the hold-out, the chosen threshold {number(threshold)} costs {number(cost)} a row and one half "
        f"{number(half)}; taking every row for the event costs {number(everyone)} (left end), taking none "
        f"{number(none)} (right end).",
        f"A missed event costs {task.cost.missed:g}, a false alarm {task.cost.false_alarm:g}. The threshold was chosen "
        "where the dashed curve is lowest.",
    )


def _thresholds(subject: Subject) -> Table:
    rows = []
    names = list(next(iter(subject.manifest.thresholds.values())).hold_out)
    for choice, outcome in subject.manifest.thresholds.items():
        chosen = " (chosen)" if choice == subject.manifest.threshold_choice else ""
        label = CHOICES.get(choice, choice.replace("_", " "))
        found = outcome.hold_out
        rows.append([f"{label}{chosen}", number(outcome.threshold), *(number(found[one]) for one in names)])
    for label, threshold in (("every row taken for the event", 0.0), ("no row taken for the event", np.inf)):
        found = _task(subject).decision_metrics(subject.test.y, subject.scores, threshold)
        rows.append([label, NOTHING, *(number(found[one]) for one in names)])
    caption = "Thresholds, and what they lead to on the hold-out"
    return Table(caption, ["Threshold", "Value", *map(metric_name, names)], rows)


def _threshold(subject: Subject) -> float:
    threshold = subject.manifest.threshold
    assert threshold is not None
    return threshold


def _outcomes(subject: Subject) -> Vector:
    """Counts of the hold-out's rows: events and others (rows) by what they are taken for (columns)."""
    decisions = subject.scores >= _threshold(subject)
    return np.array([[np.sum((subject.test.y == of) & (decisions == taken)) for taken in (1, 0)] for of in (1, 0)])


def _costs(subject: Subject) -> tuple[float, float, float]:
    """What a row of the hold-out costs at the threshold, taking none for an event, and taking all."""
    cost, y = _task(subject).cost, subject.test.y
    none = cost.expected(y, np.zeros(len(y)))
    return subject.manifest.metrics[HOLD_OUT]["expected_cost"], none, cost.expected(y, np.ones(len(y)))


def _curve(task: Classification, y: Vector, scores: Vector) -> Vector:
    return np.array([task.cost.expected(y, (scores >= threshold).astype(np.float64)) for threshold in GRID])


def _task(subject: Subject) -> Classification:
    task = subject.use_case.task
    assert isinstance(task, Classification)
    return task
