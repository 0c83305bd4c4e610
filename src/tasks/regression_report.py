"""What a report shows about a model of a number."""

from itertools import islice

import numpy as np

from tabserve.charts import figures
from tabserve.charts.groups import quartiles_by, quartiles_of_truth
from tabserve.charts.parts import Chart, Section, listed, number, share
from tabserve.columns.boolean import Boolean
from tabserve.columns.features import Category, CyclicInteger, Feature, Number
from tabserve.tasks.base import Task
from tabserve.tasks.results import Results

SHOWN = 3  # features whose errors are shown


def summary(task: Task, results: Results) -> list[str]:
    """The model's quality in sentences."""
    y, metrics, target = results.y, results.metrics, results.target.feature
    return [
        f"It predicts “{target.name}” ({target.description}).",
        f"On the {len(y):,} rows of the hold-out, which it never saw, R² is "
        f"{number(metrics['r2'])}{results.within('r2')}: it explains {share(metrics['r2'])} of the variance. A "
        f"prediction is off by {number(metrics['mae'])} on average (the MAE); the mean of “{target.name}” is "
        f"{number(float(y.mean()))}.",
    ]


def sections(task: Task, results: Results) -> list[Section]:
    """How far predictions are off, and where."""
    table = results.table
    ranked = [column for column in results.columns if isinstance(column, Category | Boolean | Number)]
    ranked.sort(key=lambda feature: not isinstance(feature, CyclicInteger))  # the hour of a day before all others
    known = [feature for feature in ranked if table[feature.name].notna().any()]
    text = "How far predictions are off on the hold-out, and for which rows. An error is truth minus prediction."
    if unknown := [f"“{feature.title}”" for feature in ranked if feature not in known]:
        text += f" No row of the hold-out has a value of {listed(unknown)}, so errors by that are not shown."
    errors = (_errors_by(results, feature, f"errors-{place}") for place, feature in enumerate(known))
    return [Section("Predictions", [text], [_predicted(results), *islice(filter(None, errors), SHOWN)])]


def _predicted(results: Results) -> Chart:
    y, predictions = results.y, results.predictions
    predicted, *quartiles = quartiles_of_truth(y, predictions).T
    ends = [float(predicted[0]), float(predicted[-1])]
    svg = figures.lines(
        "predicted",
        [
            figures.Series("median of the true values", predicted, quartiles[1], marker="o"),
            figures.Series("middle half of them", predicted, quartiles[0], figures.B, ":"),
            figures.Series("", predicted, quartiles[2], figures.B, ":"),
            figures.Series("exactly right", ends, ends, figures.MUTED, "--"),
        ],
        "predicted",
        "true",
    )
    errors = y - predictions
    low, high = np.quantile(errors, [0.05, 0.95])
    return Chart(
        "Predicted against true",
        svg,
        f"R² is {results.metric('r2')}, RMSE {results.metric('rmse')}, MAE "
        f"{results.metric('mae')}. Nine in ten errors lie between {number(low)} and {number(high)}.",
        "The true values of the hold-out's rows, in ten groups by prediction. The nearer to the dashed line, the "
        "better; above it predictions are too low. The closer the dotted lines, the surer a single prediction.",
    )


def _errors_by(results: Results, feature: Feature, name: str) -> Chart | None:
    """How errors spread by a feature; None when no value of it has enough rows to be shown."""
    values = results.table[feature.name].to_numpy(dtype=object)
    labels, quartiles = quartiles_by(feature, values, results.y - results.predictions)
    if not len(labels):
        return None
    svg = figures.spans(name, labels, quartiles, feature.title, "error")
    width = quartiles[:, 2] - quartiles[:, 0]
    widest, furthest = int(np.argmax(width)), int(np.argmax(np.abs(quartiles[:, 1])))

    def at(place: int) -> str:
        label = labels[place]
        return label if isinstance(label, str) else f"{label:g}"

    return Chart(
        f"Errors by {feature.title}",
        svg,
        f"The median error is furthest from 0 at {at(furthest)}, with {number(float(quartiles[furthest, 1]))}; errors "
        f"spread most at {at(widest)}, where half of them lie between {number(float(quartiles[widest, 0]))} and "
        f"{number(float(quartiles[widest, 2]))}.",
        "Dots are median errors, bars hold the middle half. Above 0 predictions are too low, below it too high; a dot "
        "far from 0 is a bias. Values with few rows are left out.",
    )
