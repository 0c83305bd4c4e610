"""What a challenge found, in words, tables and a page in the report's look."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from tabserve.charts.pages import render_page
from tabserve.charts.parts import NOTHING, Chart, ReportTable, Section, metric_name, number, share
from tabserve.monitoring.challenge import Challenge, Difference, Flips

MOST_REASONS = 10


def sentences(found: Challenge) -> list[str]:
    """What was found, the most important first."""
    first, last = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" for time in (found.first, found.last))
    told = [f"{found.compared:,} logged records from {first} to {last} were predicted again by {found.model_id}."]
    if found.flips:
        changed = sum(found.flips.kinds.values())
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.flips.kinds.items())
        told.append(f"{changed:,} decisions ({100 * found.flips.share:.1f} %) would have been others{_in(kinds)}.")
    if found.moved:
        told.append(f"Half of the predictions would have moved by less than {number(found.moved[0])}.")
    told += [_metric_sentence(name, one) for name, one in found.metrics.items()]
    if not found.metrics:
        told.append(f"{found.outcomes:,} outcomes are known: too few, or too uniform, to say which model is better.")
    if found.refused:
        told.append(f"It would have refused {found.refused:,} records.")
    if found.left_out:
        told.append(
            f"It does not know the column(s) {', '.join(found.left_out)}: left out here; clients must not send them."
        )
    if found.explained:
        changed = sum(found.reasons.values())
        told.append(f"The first reason would have been another one for {changed:,} of {found.explained:,} records.")
    return told


def _in(kinds: str) -> str:
    return f": {kinds}" if kinds else ""


def _metric_sentence(name: str, one: Difference) -> str:
    value, low, high = one.better
    verdict = "it is better" if low > 0 else "it is worse" if high < 0 else "they cannot be told apart"
    return (
        f"{metric_name(name)}: {number(one.was)} as decided, {number(one.would_be)} by the candidate; {verdict}. "
        f"Better by {number(value)}, 95 % interval {number(low)} to {number(high)}; below 0 is worse."
    )


def tables(found: Challenge) -> Iterator[ReportTable]:
    """The figures behind the sentences."""
    yield ReportTable(
        "Whose decisions the log holds",
        ["Model", "Records"],
        [[name, f"{n:,}"] for name, n in found.decided_by.items()],
    )
    for name, by in {**found.groups, **found.columns}.items():
        if by:
            yield _flips_table(name, by)
    if found.ratios:
        rows = [[name, *map(number, pair)] for name, pair in found.ratios.items()]
        caption = "Smallest share of favourable decisions between groups, divided by the largest"
        yield ReportTable(caption, ["Groups by", "As decided", "Candidate"], rows)
    if found.reasons:
        rows = [[change, f"{count:,}"] for change, count in [*found.reasons.items()][:MOST_REASONS]]
        yield ReportTable(f"First reasons that change, of {found.explained:,} records", ["Reason", "Records"], rows)


def _flips_table(name: str, by: Mapping[str, Flips]) -> ReportTable:
    kinds = [*dict.fromkeys(kind for flips in by.values() for kind in flips.kinds)]
    rows = [
        [label, f"{flips.rows:,}", f"{100 * flips.share:.1f} %", *(f"{flips.kinds.get(kind, 0):,}" for kind in kinds)]
        for label, flips in by.items()
    ]
    return ReportTable(f"Decisions that change, by {name}", [name, "Records", "Changed", *kinds], rows)


def page(found: Challenge) -> str:
    """The challenge as one self-contained page."""
    first, *others = tables(found)
    return render_page(
        title=f"Challenger of {found.use_case}",
        description=f"What {found.model_id} would have decided about the records in the decision log.",
        sections=[
            Section("What was found", points=sentences(found), charts=[*_charts(found)]),
            Section("Figures", tables=others),
            Section("The log", tables=[first]),
        ],
    )


def _charts(found: Challenge) -> Iterator[Chart]:
    from tabserve.charts import figures

    for name, by in found.groups.items():
        if len(by) > 1:
            shares: Sequence[float] = [flips.share for flips in by.values()]
            finding = "; ".join(f"{label}: {share(flips.share)}" for label, flips in by.items())
            svg = figures.bars(f"flips_{name}", [*by], shares, "share of decisions that change")
            yield Chart(
                f"Decisions that change, by {name}", svg, finding or NOTHING, "Groups of few records are left out."
            )
