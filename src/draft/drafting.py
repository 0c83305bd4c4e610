"""Drafting: from the cells of a table to a first declaration, with what was seen and what is doubted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import numpy as np

from tabserve.columns.features import RESERVED_NAMES
from tabserve.draft.infer import infer
from tabserve.draft.leaks import bins_of, linear_strength, rows_of, strength
from tabserve.draft.numbers import ENOUGH, decimal_of
from tabserve.draft.parts import derived_parts
from tabserve.draft.profile import Profile, profile_of
from tabserve.draft.proposal import Proposal
from tabserve.draft.roles import group_of, time_of
from tabserve.draft.target import DraftTarget, draft_target, nearest_names
from tabserve.draft.words import WEIGHTS, is_protected, phrase_of
from tabserve.errors import DraftError
from tabserve.tables.raw import RawTable

CARRIED = ("id", "ignore")  # kinds that no model sees
LEAK = {"binary": 0.99, "multiclass": 0.98, "regression": 0.98}  # strengths from which on a column is left out
SUSPECT = {"binary": 0.95, "multiclass": 0.95, "regression": 0.95}
MEASURES = {"binary": "ROC AUC", "multiclass": "share of mistakes avoided", "regression": "R²"}
FEW_ROWS = 200  # below, a column may predict the target by chance


@dataclass(frozen=True)
class Doubt:
    """What a person must decide or know.

    Parameters
    ----------
    columns : tuple of str
        The columns that it is about; empty for the whole table.
    sentence : str
        One sentence or more.
    """

    columns: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Draft:
    """A first declaration.

    Parameters
    ----------
    name : str
        The use case's name.
    table : RawTable
        What was read.
    target : DraftTarget
        What is predicted.
    proposals : tuple of Proposal
        The other columns, in the file's order.
    derived : mapping of dict
        Columns that are computed, by name.
    group, time : str
        Columns by which rows are split; empty for none.
    remarks : tuple of str
        Doubts about the whole table.
    said : mapping
        What the declaration says besides, such as its source.
    """

    name: str
    table: RawTable
    target: DraftTarget
    proposals: tuple[Proposal, ...]
    derived: Mapping[str, dict[str, Any]]
    group: str
    time: str
    remarks: tuple[str, ...]
    said: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Proposal, ...]:
        """All columns in the file's order, the target among them."""
        by_name = {proposal.name: proposal for proposal in (*self.proposals, self.target.proposal)}
        return tuple(by_name[column.name] for column in self.table.columns)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """All doubts: about the table, the target, then by column; the same about several columns is one."""
        columns: dict[str, list[str]] = {}
        for proposal in (self.target.proposal, *self.proposals):
            for sentence in proposal.doubts:
                columns.setdefault(sentence, []).append(proposal.name)
        by_column = [Doubt(tuple(names), sentence) for sentence, names in columns.items()]
        return (*(Doubt((), remark) for remark in self.remarks), *by_column)

    def plain(self) -> dict[str, Any]:
        """The declaration as plain data."""
        columns = {proposal.name: {"kind": proposal.kind, **proposal.options} for proposal in self.columns}
        for name, line in columns.items():
            if line["kind"] in CARRIED:
                columns[name] = {"kind": line["kind"]}
        plain = {
            **self.said,
            "target": self.target.proposal.name,
            "outcomes": self._outcomes(),
            "group": self.group,
            "time": self.time,
            "columns": columns,
            "derived": {name: dict(line) for name, line in self.derived.items()},
        }
        return {key: value for key, value in plain.items() if value}

    def _outcomes(self) -> list[str]:
        """The words for the two outcomes, where they do not follow from the column."""
        labels = self.target.labels
        is_said = self.target.proposal.kind != "boolean" or set(labels) == {"0", "1"}
        return [] if is_said else list(labels)

    def notes(self) -> dict[str, str]:
        """Comments by place: what was seen of a column, and each doubt; at the top what is about the whole."""
        rows = f"{self.table.rows:,} rows were read. Lines with CHECK say what a person must decide."
        notes = {"": [rows, *map(_check, self.remarks)]}
        for proposal in self.columns:
            seen = [f"seen: {proposal.seen}"] if proposal.seen and not proposal.is_secret else []
            notes[f"columns.{proposal.name}"] = [*seen, *map(_check, proposal.doubts)]
        return {
            place: "\n".join(line for one in lines for line in wrap(one, 116))
            for place, lines in notes.items()
            if lines
        }


def draft(table: RawTable, target: str, name: str, said: Mapping[str, Any]) -> Draft:
    """Draft a declaration.

    Parameters
    ----------
    table : RawTable
        The cells of a file.
    target : str
        The column to predict.
    name : str
        The use case's name.
    said : mapping
        What the declaration says besides the columns: title, source, dialect, sheet.

    Returns
    -------
    Draft

    Raises
    ------
    DraftError
        When there is no such column, a name is taken, or nothing can be learnt.
    """
    names = [column.name for column in table.columns]
    target = _spelt(target, names)
    _check_names(names, target)
    profiles = [profile_of(column) for column in table.columns]
    decimal, is_sure = _decimal(profiles, said)
    goal = draft_target(profiles[names.index(target)], decimal)
    others = [infer(profile, decimal) for profile in profiles if profile.name != target]
    proposals = [_by_name(one) for one in _without_leaks(_without_copies(others), goal)]
    (target_proposal, *proposals), markers = _shared_markers([goal.proposal, *proposals])
    goal = replace(goal, proposal=target_proposal)
    if not any(proposal.kind not in CARRIED for proposal in proposals):
        raise DraftError("No column is left to predict from: all are identifiers, constants, free of values or leaks.")
    time, in_time = time_of(proposals, goal)
    group, together = group_of(proposals)
    proposals = [one.doubting(*in_time.get(one.name, ()), *together.get(one.name, ())) for one in proposals]
    remarks = [*_rows(table, profiles), *markers.values(), *([] if is_sure else [_UNSURE_DECIMAL])]
    said = {**said, "markers": list(markers)}
    if decimal == "," and "dialect" in said:
        said = {**said, "dialect": {**said["dialect"], "decimal": decimal}}
    return Draft(name, table, goal, tuple(proposals), derived_parts(proposals), group, time, tuple(remarks), said)


def _check(doubt: str) -> str:
    return f"CHECK: {doubt}"


_UNSURE_DECIMAL = (
    "Numbers such as 1,389 may be 1389 or 1.389; they are read as 1389. If the comma is the decimal sign, write "
    'dialect = {decimal = ","} and run init with it again.'
)


def _spelt(target: str, names: Sequence[str]) -> str:
    """The target as the file spells it, where only upper and lower case differ."""
    same = [name for name in names if name.casefold() == target.casefold()]
    return same[0] if target not in names and len(same) == 1 else target


def _check_names(names: Sequence[str], target: str) -> None:
    if not names:
        raise DraftError("The file is empty: it must hold a header and rows.")
    if target not in names:
        near = nearest_names(target, names)
        listed = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from: {', '.join(names[:40])}."
        raise DraftError(f"There is no column '{target}': {listed}")
    for name in names:
        if name in RESERVED_NAMES:
            raise DraftError(
                f"A column cannot be called '{name}', because answers use that name: rename it in the file."
            )
    if len(names) < 2:
        raise DraftError(f"The file has only the column '{target}': there is nothing to predict it from.")


def _decimal(profiles: Sequence[Profile], said: Mapping[str, Any]) -> tuple[str, bool]:
    """The decimal sign, and whether it is sure; only texts leave it open."""
    if declared := said.get("dialect", {}).get("decimal"):
        return declared, True
    return decimal_of(profile.texts[: 10 * ENOUGH] for profile in profiles if "text" in profile.types)


def _without_copies(proposals: Sequence[Proposal]) -> Iterator[Proposal]:
    """The proposals; of columns that hold the same in each row the first is kept."""
    seen: dict[bytes, Proposal] = {}
    for proposal in proposals:
        profile = proposal.profile
        if proposal.kind in CARRIED or len(profile.texts) < 2:
            yield proposal
            continue
        first = seen.setdefault(profile.codes.tobytes(), proposal)  # texts are numbered by their first appearance
        if first is proposal:
            yield proposal
        elif first.profile.texts == profile.texts:
            yield proposal.ignored(f"It holds the same as “{first.name}” in each row: left out.")
        else:
            yield proposal.doubting(
                f"It says the same as “{first.name}” in other words, value for value: one of the two is enough."
            )


def _without_leaks(proposals: Iterator[Proposal], target: DraftTarget) -> Iterator[Proposal]:
    """The proposals; columns that alone predict the target are left out."""
    known = ~np.isnan(target.y)
    y, classes = target.y[known], len(target.labels)
    for proposal in proposals:
        if proposal.kind in (*CARRIED, "text"):
            yield proposal
            continue
        found = strength(bins_of(proposal.profile, proposal.values)[known], y, classes)
        if proposal.values is not None and not classes:
            found = max(found, linear_strength(rows_of(proposal.profile, proposal.values)[known], y))
        alone = f"Alone it predicts the target with {MEASURES[target.task]} {found:.3f}"
        if found >= LEAK[target.task] and len(y) >= FEW_ROWS:
            yield proposal.ignored(
                f"{alone}: a leak, unless it is truly known before the outcome. Left out; to use it, write kind = "
                f'"{proposal.kind}".'
            )
        elif found >= SUSPECT[target.task]:
            yield proposal.doubting(
                f'{alone}. If it is known only after the outcome, it is a leak: write kind = "ignore".'
            )
        else:
            yield proposal


def _by_name(proposal: Proposal) -> Proposal:
    """What a column's name says: a protected trait, a weight."""
    if proposal.kind in CARRIED:
        return proposal
    if phrase_of(proposal.name) in WEIGHTS and proposal.kind in ("number", "integer"):
        return proposal.ignored(
            "By its name it says how much a row counts, and is no feature: left out. To weigh rows by it, write kind = "
            f'"{proposal.kind}" with input = false and its bounds, and above weight = "{proposal.name}".'
        )
    if not is_protected(proposal.name):
        return proposal
    return replace(proposal, options={**proposal.options, "protected": True}).doubting(
        "Its name suggests a trait that the law may protect, so it is marked: reports compare models with and without "
        "it. Decide whether it may be used at all (train --exclude-protected)."
    )


def _shared_markers(proposals: Sequence[Proposal]) -> tuple[list[Proposal], dict[str, str]]:
    """The proposals less the markers that several columns have, and these with what is to be said about them."""
    rows: dict[str, list[int]] = {}
    for proposal in proposals:
        for marker, count in proposal.profile.markers.items():
            rows.setdefault(marker, []).append(count)
    shared = {
        marker: f"“{marker}” is read as missing in {len(counts)} columns ({sum(counts):,} cells)."
        for marker, counts in rows.items()
        if len(counts) > 1 and not any(marker in proposal.profile.texts for proposal in proposals)
    }
    return [_less_markers(proposal, shared) for proposal in proposals], shared


def _less_markers(proposal: Proposal, shared: Mapping[str, str]) -> Proposal:
    own = [marker for marker in proposal.options.get("markers", []) if marker not in shared]
    options = {name: value for name, value in proposal.options.items() if name != "markers"}
    said = tuple(f"“{marker}” is read as missing" for marker in shared)
    doubts = tuple(doubt for doubt in proposal.doubts if not doubt.startswith(said)) if said else proposal.doubts
    return replace(proposal, options={**options, **({"markers": own} if own else {})}, doubts=doubts)


def _rows(table: RawTable, profiles: Sequence[Profile]) -> Iterator[str]:
    rows = profiles[0].rows
    if table.step > 1:
        yield f"{rows:,} of {table.rows:,} rows were looked at, one in {table.step}: rare values may be missing here."
    generator = np.random.default_rng(0)
    digests = np.zeros(rows, np.uint64)
    for profile in profiles:
        factor = generator.integers(1, 2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        digests += (profile.codes.astype(np.int64).astype(np.uint64) + np.uint64(2)) * factor
    if copies := rows - len(np.unique(digests)):
        yield (
            f"Copies of other rows, target included: {copies:,}. They stay on one side of the split, so they "
            "flatter nothing; if they are faults of the file, remove them."
        )
    if rows < FEW_ROWS:
        yield f"{rows} rows are few: expect wide intervals."
