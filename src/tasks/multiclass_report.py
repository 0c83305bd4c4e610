"""What a report shows about a model of several classes."""

import numpy as np

from tabserve.aliases import Matrix
from tabserve.charts import figures
from tabserve.charts.parts import Chart, ReportTable, Section, number, share
from tabserve.evaluation.metrics import Confusion, class_metrics, roc_auc
from tabserve.tasks.multiclass import Multiclass
from tabserve.tasks.results import Results


def summary(task: Multiclass, results: Results) -> list[str]:
    """The model's quality in sentences."""
    feature, metrics = results.target.feature, results.metrics
    most = max(np.mean(results.y == code) for code in range(len(task.outcomes)))
    return [
        f"It predicts “{feature.name}” ({feature.description}): the probability of each of {len(task.outcomes)} "
        "classes, of which the most probable one is the result.",
        f"On the {len(results.y):,} rows of the hold-out, which it never saw, the one-vs-rest AUC is "
        f"{results.metric('roc_auc_ovr')}{results.within('roc_auc_ovr')}. It names the right class for "
        f"{share(metrics['accuracy'])} of the rows; always naming the most frequent class would be right for "
        f"{share(most)}.",
    ]


def sections(task: Multiclass, results: Results) -> list[Section]:
    """Which classes are taken for which, and how each class fares."""
    counts = Confusion(results.y, results.decision.decide(results.predictions), len(task.outcomes)).table()
    return [
        Section(
            "Classes",
            ["How well the model tells the classes apart, on the hold-out. The most probable class is the result."],
            [_confusion(task, counts)],
            [_by_class(task, results, counts)],
        )
    ]


def _confusion(task: Multiclass, counts: Matrix) -> Chart:
    notes = [["" for _ in task.outcomes] for _ in task.outcomes]
    svg = figures.matrix("confusion", counts, task.outcomes, task.outcomes, notes)
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    finding = f"{counts.trace():,.0f} of {counts.sum():,.0f} rows get the right class."
    if wrong.any():
        true, taken = np.unravel_index(np.argmax(wrong), wrong.shape)
        finding += (
            f" The most frequent error is to take “{task.outcomes[true]}” for “{task.outcomes[taken]}”: "
            f"{wrong[true, taken]:,.0f} of {counts[true].sum():,.0f}."
        )
    return Chart(
        "Confusion matrix",
        svg,
        finding,
        "Rows of the hold-out by their true class (left) and by the class that the model names (below). Errors are off "
        "the diagonal. The deeper the colour, the larger the share of the true class.",
    )


def _by_class(task: Multiclass, results: Results, counts: Matrix) -> ReportTable:
    found = class_metrics(counts)
    rows = [
        [
            outcome,
            f"{counts[code].sum():,.0f}",
            *(number(float(found[name][code])) for name in ("precision", "recall", "f1")),
            number(roc_auc((results.y == code).astype(np.float64), results.predictions[:, code])),
            number(float(results.predictions[:, code].mean())),
            share(float(np.mean(results.y == code))),
        ]
        for code, outcome in enumerate(task.outcomes)
    ]
    weakest = task.outcomes[int(np.nanargmin(found["f1"]))]
    caption = f"Each class against the rest, on the hold-out. F1 is lowest for “{weakest}”."
    head = ["Class", "Rows", "Precision", "Recall", "F1", "ROC AUC", "Mean probability", "Share of the rows"]
    return ReportTable(caption, head, rows)
