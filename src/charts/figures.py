"""Charts as SVG for an HTML page, in the page's own font and colours.

matplotlib is imported when a chart is drawn. pyplot is never imported: it keeps figures and needs a display.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from markupsafe import Markup

from tabserve.aliases import Matrix, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 340, 250  # points; narrow, so that letters stay readable on a telephone
ROW = 15  # points that a bar, or a line of the legend, takes
LETTER = 5.8  # points: a letter's mean width, to leave room for labels

# Placeholders: in the SVG they are replaced by the page's own colours, so that dark mode can change them.
COLOURS = {name: f"#00000{place}" for place, name in enumerate(("ink", "muted", "grid", "a", "b", "c", "paper"), 1)}
INK, MUTED, GRID, A, B, C, PAPER = COLOURS.values()

STYLE: Any = {  # of matplotlib's rcParams
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "tabserve",  # ids would be random otherwise
    "text.parse_math": False,  # a name may hold a $
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderpad": 0,
    "legend.columnspacing": 1.2,
}

Position: TypeAlias = tuple[str, float]  # a label and where its line stands


@dataclass(frozen=True)
class Series:
    """Points of a line chart.

    Parameters
    ----------
    label : str
        For the legend; an empty one is left out.
    x, y : ndarray, shape (n_points,)
    colour : str
        One of `COLOURS`.
    line, marker : str
        matplotlib's codes; empty for none.
    step : bool
        Whether a value holds until the next point.
    """

    label: str
    x: Sequence[float] | Vector
    y: Sequence[float] | Vector
    colour: str = A
    line: str = "-"
    marker: str = ""
    step: bool = False


def lines(
    name: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    marks: Sequence[Position] = (),
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    logarithmic: bool = False,
) -> Markup:
    """Lines and points over numbers, with vertical lines at some marks."""

    def plot(axes: "Axes") -> None:
        for one in series:
            axes.plot(
                *(one.x, one.y),
                color=one.colour,
                linestyle=one.line or "none",
                marker=one.marker or "none",
                markersize=3.5,
                linewidth=1.6,
                label=one.label or "_",
                drawstyle="steps-post" if one.step else "default",
            )
        _mark(axes, marks)
        if logarithmic:
            axes.set_xscale("log")
            ticks = series[0].x
            axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], minor=False)
            axes.minorticks_off()
        axes.set(xlabel=x_label, ylabel=y_label)
        if x_limits:
            axes.set_xlim(*x_limits)
        if y_limits:
            axes.set_ylim(*y_limits)

    return draw(name, plot, legend=sum(bool(one.label) for one in series) + len(marks))


def histogram(
    name: str, edges: Vector, shares: Mapping[str, Vector], x_label: str, marks: Sequence[Position] = ()
) -> Markup:
    """Shares of rows between edges, one outline for each label."""

    def plot(axes: "Axes") -> None:
        for (label, heights), colour, line in zip(shares.items(), (A, B, C), ("-", "--", ":"), strict=False):
            axes.stairs(heights, edges, color=colour, linewidth=1.6, linestyle=line, label=label)
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.15)
        _mark(axes, marks)
        axes.set(xlabel=x_label, ylabel="share of the rows", xlim=(edges[0], edges[-1]))

    return draw(name, plot, legend=len(shares) + len(marks))


def bars(
    name: str,
    labels: Sequence[str],
    values: Sequence[float] | Vector,
    x_label: str,
    errors: Sequence[float] | Vector | None = None,
) -> Markup:
    """A horizontal bar for each label, the first at the top."""

    def plot(axes: "Axes") -> None:
        axes.barh(labels_at(labels), values, color=A, alpha=0.8, height=0.65)
        if errors is not None:
            axes.errorbar(values, labels_at(labels), xerr=errors, fmt="none", ecolor=INK, elinewidth=1)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set(xlabel=x_label)
        _rows(axes, labels)

    return draw(name, plot, height=_height(labels), left=_left(labels))


def dots(name: str, labels: Sequence[str], values: Mapping[str, Sequence[float]], x_label: str) -> Markup:
    """A line for each label, with a dot of each kind."""

    def plot(axes: "Axes") -> None:
        for (kind, numbers), colour, marker in zip(values.items(), (A, B, C), "os^", strict=False):
            axes.plot(numbers, labels_at(labels), marker=marker, color=colour, linestyle="none", label=kind)
        axes.set(xlabel=x_label)
        _rows(axes, labels)

    return draw(name, plot, height=_height(labels) + 20, left=_left(labels), legend=len(values))


def spans(name: str, labels: Sequence[str] | Vector, quartiles: Matrix, title: str, value_label: str) -> Markup:
    """The middle half and the median at each label: texts from top to bottom, numbers from left to right.

    Parameters
    ----------
    name : str
        Different for each chart of a page.
    labels : sequence of str, or ndarray of numbers
    quartiles : ndarray, shape (n_labels, 3)
    title, value_label : str
        What the labels and the quartiles are.
    """
    low, middle, high = quartiles.T

    def beside(axes: "Axes") -> None:
        axes.vlines(labels, low, high, color=A, linewidth=4, alpha=0.45)
        axes.plot(labels, middle, "o", color=B, markersize=3.5)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel=title, ylabel=value_label)
        axes.locator_params(axis="x", integer=bool(np.all(np.mod(labels, 1) == 0)))

    def below(axes: "Axes") -> None:
        axes.hlines(labels_at(labels), low, high, color=A, linewidth=4, alpha=0.45)
        axes.plot(middle, labels_at(labels), "o", color=B, markersize=3.5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel=value_label)
        _rows(axes, labels)

    if isinstance(labels, np.ndarray):
        return draw(name, beside)
    return draw(name, below, height=_height(labels), left=_left(labels))


def matrix(
    name: str, counts: Matrix, rows: Sequence[str], columns: Sequence[str], notes: Sequence[Sequence[str]]
) -> Markup:
    """Counts in a square, each with a note. The larger a count's share of its row, the deeper its colour.

    Parameters
    ----------
    name : str
        Different for each chart of a page.
    counts : ndarray, shape (n_labels, n_labels)
    rows, columns : sequence of str
        n_labels labels of each, from top to bottom and from left to right.
    notes : sequence of sequence of str
        For each count; empty for none.
    """
    size = len(rows)
    letters = max(5.0, min(15.0, 30.0 / size))

    def plot(axes: "Axes") -> None:
        for row, column in np.ndindex(size, size):
            depth = 0.08 + 0.5 * counts[row, column] / max(counts[row].sum(), 1)
            bottom, note = size - 1 - row, notes[row][column]
            axes.fill_between([column, column + 1], bottom, bottom + 1, color=A if row == column else B, alpha=depth)
            at = bottom + (0.55 if note else 0.5)
            axes.text(column + 0.5, at, f"{counts[row, column]:,.0f}", ha="center", va="center", fontsize=letters)
            axes.text(column + 0.5, bottom + 0.28, note, ha="center", va="center")
        axes.set(xlim=(0, size), ylim=(0, size))
        axes.grid(visible=False)
        turned: dict[str, Any] = {} if size == 2 else {"rotation": 30, "ha": "right"}
        axes.set_xticks(np.arange(size) + 0.5, [_cut(label) for label in columns], **turned)
        axes.set_yticks(size - np.arange(size) - 0.5, [_cut(label) for label in rows])
        axes.tick_params(length=0)

    bottom = 24 if size == 2 else 24 + LETTER / 2 * max(len(_cut(label)) for label in columns)
    return draw(name, plot, height=HEIGHT + bottom - 24, left=_left(rows), bottom=bottom)


def draw(
    name: str,
    plot: Callable[["Axes"], None],
    height: float = HEIGHT,
    left: float = 56,
    bottom: float = 40,
    legend: int = 0,
) -> Markup:
    """Draw a chart and return its SVG.

    Parameters
    ----------
    name : str
        Different for each chart of a page, since ids in the SVG begin with it.
    plot : callable
        Draws on the axes it is given.
    height, left, bottom : float
        Of the picture, and of the margins for labels, in points.
    legend : int
        Entries of the legend, above the axes.

    Returns
    -------
    Markup
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    top = 8 + ROW * ((legend + 1) // 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, (height + top) / 72), facecolor="none")
        total = height + top
        axes = figure.add_axes((left / WIDTH, bottom / total, (WIDTH - left - 14) / WIDTH, (height - bottom) / total))
        plot(axes)
        if legend:
            # beside long labels the legend begins at the picture's edge: it would not fit beside it otherwise
            place = (min(left, 56) / WIDTH, (height + 3) / total)
            axes.legend(
                ncols=2, loc="lower left", bbox_to_anchor=place, bbox_transform=figure.transFigure, borderaxespad=0
            )
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # a date would make every report different
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _for_html(buffer.getvalue(), name)


def labels_at(labels: Sequence[str] | Vector) -> Vector:
    """The places of labels on an axis, the first being the highest."""
    return np.arange(len(labels), 0.0, -1)


def _mark(axes: "Axes", marks: Sequence[Position]) -> None:
    for (label, x), line in zip(marks, ("--", ":", "-.", "-"), strict=False):
        axes.axvline(x, color=INK, linewidth=1, linestyle=line, label=label)


def _rows(axes: "Axes", labels: Sequence[str] | Vector) -> None:
    axes.set_yticks(labels_at(labels), [_cut(str(label)) for label in labels])
    axes.set_ylim(0.4, len(labels) + 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)


def _cut(label: str) -> str:
    return label if len(label) <= 26 else f"{label[:25]}…"


def _left(labels: Sequence[str]) -> float:
    return 14 + LETTER * max(len(_cut(label)) for label in labels)


def _height(labels: Sequence[str]) -> float:
    return 52 + ROW * max(len(labels), 3)


def _for_html(svg: str, name: str) -> Markup:
    """The SVG without its file header, with ids that are unique on the page and with the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg)
    referenced = set(re.findall(r'(?:href="|url\()#(\w+)', svg))

    def renamed(found: re.Match[str]) -> str:
        return f'{found[1]} id="{name}-{found[2]}"' if found[2] in referenced else found[1]

    svg = re.sub(r'(<[^<>]*?) id="([^"]*)"', renamed, svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return Markup(re.sub(r"\s*\n\s*", "\n", svg).strip())  # noqa: S704 - matplotlib escapes the texts in it
