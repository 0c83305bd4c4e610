"""The page that shows a draft: what must be decided, then every column."""

from collections import defaultdict

from tabserve.charts.pages import render_page
from tabserve.charts.parts import NOTHING, ReportTable, Section
from tabserve.charts.small import small_bars
from tabserve.draft.drafting import Draft
from tabserve.draft.proposal import Proposal
from tabserve.draft.shown import declared, examples_of, heights_of, missing_share

HEAD = ("Column", "Kind", "Why", "Examples", "Missing", "Distinct", "Seen", "Spread", "Declared", "Doubts")


def render_draft(draft: Draft) -> str:
    """The page.

    Parameters
    ----------
    draft : Draft

    Returns
    -------
    str
        HTML that loads nothing. Values that may tell who somebody is are shown in outline only.
    """
    target = draft.target.proposal.name
    rows, columns = draft.table.rows, len(draft.columns)
    return render_page(
        title=f"{draft.name}: the data",
        description=f"{rows:,} rows and {columns:,} columns; “{target}” is predicted ({draft.target.task}).",
        sections=[_doubts(draft), _columns(draft), _derived(draft), _file(draft)],
    )


def doubts_by_column(draft: Draft) -> dict[str, list[int]]:
    """The numbers of the doubts about each column."""
    numbers = defaultdict(list)
    for number, doubt in enumerate(draft.doubts, 1):
        for column in doubt.columns:
            numbers[column].append(number)
    return numbers


def _doubts(draft: Draft) -> Section:
    text = "The declaration holds a proposal for each of these, and can be trained as it is. Read them before that."
    rows = [
        [str(number), ", ".join(doubt.columns) or "the table", doubt.sentence]
        for number, doubt in enumerate(draft.doubts, 1)
    ]
    table = ReportTable("Doubts", ("No.", "Column", "What to decide"), rows)
    return Section("What you must decide", [text if rows else "Nothing."], tables=[table] if rows else [])


def _columns(draft: Draft) -> Section:
    numbers = doubts_by_column(draft)
    text = (
        "Bounds are wider than the values that were seen, since other rows will come. Bars show how the values spread: "
        "over their range, or the most frequent ones first."
    )
    rows = [_row(proposal, numbers[proposal.name]) for proposal in draft.columns]
    return Section("Columns", [text], tables=[ReportTable("Columns in the order of the file", HEAD, rows)])


def _row(proposal: Proposal, numbers: list[int]) -> list[str]:
    heights = heights_of(proposal)
    return [
        proposal.name,
        proposal.kind,
        proposal.why,
        examples_of(proposal) or NOTHING,
        missing_share(proposal),
        f"{len(proposal.profile.texts):,}",
        (not proposal.is_secret and proposal.seen) or NOTHING,
        small_bars(heights, f"Spread of {proposal.name}: {proposal.seen}") if heights else NOTHING,
        declared(proposal.options) or NOTHING,
        ", ".join(map(str, numbers)) or NOTHING,
    ]


def _derived(draft: Draft) -> Section:
    rows = [[name, line["kind"], declared({**line, "kind": line["kind"]})] for name, line in draft.derived.items()]
    if not rows:
        return Section("Derived columns", ["None: there are no dates."])
    return Section("Derived columns", tables=[ReportTable("Computed from dates", ("Column", "Kind", "How"), rows)])


def _file(draft: Draft) -> Section:
    rows = [[name, repr(value) if value == "\t" else value] for name, value in draft.table.read_as.items()]
    return Section("The file", tables=[ReportTable("How it was read", ("What", "As"), rows)])
