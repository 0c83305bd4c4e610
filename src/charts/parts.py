"""What a report is made of: sections of text, tables and charts, and how numbers are written in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

SHORT = {  # metrics whose name in words does not follow from their name
    "roc_auc": "ROC AUC",
    "roc_auc_ovr": "One-vs-rest AUC",
    "macro_f1": "Macro F1",
    "pr_auc": "PR AUC",
    "gini": "Gini",
    "brier": "Brier score",
    "log_loss": "Log-loss",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "expected_cost": "Expected cost",
    "r2": "R²",
}
PART_NAMES = {
    "train": "Training part",
    "cross_validation": "Cross-validation",
    "hold_out": "Hold-out",
    "chronological": "By time",
}

NOTHING = "\N{EN DASH}"  # where a cell of a table has no value


@dataclass(frozen=True)
class Chart:
    """A picture, with what it shows in words.

    Parameters
    ----------
    title : str
        What is drawn.
    svg : Markup
        The picture, to stand in HTML as it is.
    finding : str
        What the picture shows, in numbers, for those who cannot see it.
    caption : str
        How it is to be read.
    """

    title: str
    svg: Markup
    finding: str
    caption: str


@dataclass(frozen=True)
class ReportTable:
    """Rows under headings; the first cell of a row is its heading.

    Parameters
    ----------
    caption : str
        What it shows.
    head : sequence of str
        The columns' headings.
    rows : sequence of sequence of str
        As many cells as headings in each.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Parameters
    ----------
    title : str
        Its heading.
    text : sequence of str
        Paragraphs.
    charts : sequence of Chart
        Side by side, after the text.
    tables : sequence of Table
        After the charts.
    points : sequence of str
        A list, at the end.
    """

    title: str
    text: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[ReportTable] = ()
    points: Sequence[str] = ()


def number(value: Any) -> str:
    """A number as it is written in a report: three digits after the point, fewer for a large one."""
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != value:
        return "undefined"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.0f} %"


def metric_name(name: str) -> str:
    """A metric's name in words."""
    return SHORT.get(name, name.replace("_", " ").upper() if len(name) <= 4 else name.replace("_", " ").capitalize())


def listed(names: Sequence[str]) -> str:
    """Names with commas and, before the last, "and"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
