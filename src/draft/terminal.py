"""What `tabserve init` prints: every column in a table of 80 columns, and the doubts."""

from typing import TYPE_CHECKING

from tabserve.charts.small import small_blocks
from tabserve.draft.drafting import Draft
from tabserve.draft.page import doubts_by_column
from tabserve.draft.proposal import Proposal
from tabserve.draft.shown import examples_of, heights_of, missing_share

if TYPE_CHECKING:
    from rich.console import Console


def show_draft(console: "Console", draft: Draft) -> None:
    """Print what was seen and doubted."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{draft.name}: {draft.table.rows:,} rows, {len(draft.columns)} columns"
    table = Table(title=title, title_justify="left", caption="* the target", box=SIMPLE_HEAD, pad_edge=False)
    for heading, options in (
        ("column", {"max_width": 18, "overflow": "fold"}),
        ("kind", {"no_wrap": True}),
        ("missing", {"justify": "right", "no_wrap": True}),
        ("distinct", {"justify": "right", "no_wrap": True}),
        ("seen, and why", {"overflow": "fold", "ratio": 1}),
        ("doubts", {"max_width": 8}),
    ):
        table.add_column(heading, **options)
    numbers = doubts_by_column(draft)
    for proposal in draft.columns:
        name = f"{proposal.name}*" if proposal.name == draft.target.proposal.name else proposal.name
        table.add_row(
            Text(name),
            proposal.kind,
            missing_share(proposal),
            f"{len(proposal.profile.texts):,}",
            Text(_seen(proposal)),
            ", ".join(map(str, numbers[proposal.name])),
        )
    console.print(table)
    for name, line in draft.derived.items():
        console.print(Text(f"computed: {name} ({line['kind']})"))
    if draft.doubts:
        console.print("\nWhat you must decide; what is proposed can be trained as it is:")
    doubts = Table.grid(padding=(0, 1))
    for number, doubt in enumerate(draft.doubts, 1):
        about = f"{', '.join(doubt.columns)}: " if doubt.columns else ""
        doubts.add_row(Text(f"{number:>3}."), Text(f"{about}{doubt.sentence}"))
    console.print(doubts)


def _seen(proposal: Proposal) -> str:
    seen = examples_of(proposal) if proposal.is_secret else proposal.seen
    heights = heights_of(proposal)
    return "\n".join(filter(None, (f"{seen} {small_blocks(heights) if heights else ''}".strip(), proposal.why)))
