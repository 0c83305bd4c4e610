"""The model card: what the model was made from, with which parameters, what it is for and where it fails."""

from typing import Any

import numpy as np
import pandas as pd

from tabserve.charts.parts import NOTHING, ReportTable, Section, listed, metric_name, number, share
from tabserve.columns.dates import Moment
from tabserve.columns.features import Category, Feature, Number
from tabserve.declaration.use_case import UseCase
from tabserve.evaluation.metrics import CHRONOLOGICAL, HOLD_OUT
from tabserve.registry.manifest import Manifest
from tabserve.report.subject import Subject
from tabserve.training.hold_out import GROUP, TIME

RARE = 20  # one row in so many, or rarer


def sections(subject: Subject) -> list[Section]:
    """Data, parameters, intended use and limits."""
    return [_data(subject), _parameters(subject), _limits(subject)]


def _data(subject: Subject) -> Section:
    manifest, use_case = subject.manifest, subject.use_case
    table = subject.features_of(subject.train)
    head = ["Feature", "Meaning", "Allowed", "In the training part"]
    rows = [
        [feature.name, feature.description, feature.allowed, _found(feature, table[feature.name])]
        for feature in use_case.features
    ]
    derived = [[column.name, column.description, "computed", NOTHING] for column in use_case.derived]
    return Section(
        "Data",
        [
            f"{manifest.data.rows:,} rows: {len(subject.train.y):,} to train on and {len(subject.test.y):,} held out, "
            f"{_split(manifest)}.{_dropped(manifest)} SHA-256 of the file: {manifest.data.sha256}.",
            *_weight(use_case),
            *_rare(subject),
            *_learnt(subject),
            *_monotone(subject),
        ],
        tables=[*_warnings(manifest), ReportTable("The columns", head, [*rows, *derived])],
    )


def _warnings(manifest: Manifest) -> list[ReportTable]:
    if not manifest.warnings:
        return []
    rows = [[warning.found, warning.advice] for warning in manifest.warnings]
    return [ReportTable("Warnings: what a person should look at", ["What was found", "What to do"], rows)]


def _split(manifest: Manifest) -> str:
    """What decided which rows are held out, as the end of a sentence."""
    if manifest.split.by == TIME:
        of = " (the first row of a group counts)" if len(manifest.split.columns) > 1 else ""
        return f"the newest by “{next(iter(manifest.split.columns))}”{of}, from {manifest.split.cut} on"
    if manifest.split.by == GROUP:
        column = next(iter(manifest.split.columns))
        return f"by a hash of their “{column}” and of the seed {manifest.seed}: rows of one group are on one side"
    return f"by a hash of their features' values and of the seed {manifest.seed}"


def _dropped(manifest: Manifest) -> str:
    dropped = manifest.data.dropped
    return f" {dropped:,} more were left out because their target is missing." if dropped else ""


def _weight(use_case: UseCase) -> list[str]:
    if not use_case.weight:
        return []
    return [f"Models were fitted with the weights “{use_case.weight}”. All metrics count each row once."]


def _rare(subject: Subject) -> list[str]:
    """What it means that an outcome is rare; empty where none is."""
    paragraphs = []
    for code, outcome in enumerate(subject.use_case.task.outcomes):
        events = int(np.sum(subject.train.y == code)) + int(np.sum(subject.test.y == code))
        rows = len(subject.train.y) + len(subject.test.y)
        if 0 < events * RARE <= rows:
            never = f"{100 * (1 - events / rows):.1f} %"
            paragraphs.append(
                f"1 in {rows / events:,.0f} rows is “{outcome}”. Nothing was re-weighted, so probabilities mean what "
                f"they say. A model that never says “{outcome}” is right in {never} of the rows, so "
                "accuracy says little here. Precision says how many alarms are right, recall how many cases are "
                "found; the AUC says how well cases are ranked, whatever the threshold."
            )
    return paragraphs


def _learnt(subject: Subject) -> list[str]:
    """How many values were learnt from the training part; empty where none were."""
    sentences = []
    for feature in subject.use_case.features:
        other = getattr(feature, "other", "")
        if isinstance(feature, Category) and other:
            held = subject.test.table[feature.name].dropna()
            unknown = int((~held.isin(feature.values)).sum())
            sentences.append(
                f"“{feature.title}”: {len(feature.values):,} values are known; any other is treated as “{other}”, as "
                f"in {unknown:,} rows of the hold-out."
            )
    return [" ".join(sentences)] if sentences else []


def _monotone(subject: Subject) -> list[str]:
    """Which columns a prediction is kept from moving against, as a paragraph; empty where none is."""
    if not subject.candidate.model.keeps_monotone:
        return []
    columns = subject.use_case.columns
    sentences = [
        f"It never {verb} as {listed([f'“{column.title}”' for column in columns if column.monotone == sign])} rises."
        for sign, verb in ((1, "falls"), (-1, "rises"))
        if any(column.monotone == sign for column in columns)
    ]
    return [f"The prediction is constrained. {' '.join(sentences)}"] if sentences else []


def _parameters(subject: Subject) -> Section:
    manifest = subject.manifest
    made = {
        "Model": manifest.model_id,
        "Algorithm": manifest.algorithm,
        "Made": manifest.created,
        "Program": f"{manifest.version}, commit {manifest.commit or 'unknown'}",
        "Python": manifest.python,
        **manifest.libraries,
    }
    tables = [
        ReportTable("Parameters of the model", ["Parameter", "Value"], _pairs(manifest.parameters)),
        ReportTable("How and with what it was made", ["What", "Value"], _pairs(made)),
    ]
    return Section("Parameters", tables=[table for table in tables if table.rows])


def _limits(subject: Subject) -> Section:
    use_case, manifest = subject.use_case, subject.manifest
    name = metric_name(subject.headline)
    points = [
        f"What it is for: {use_case.description} It answers for cases like those it was trained on, from the columns "
        "above. A person is responsible for what is done with its answers.",
        "What it is not for: to say why something happens, or what a change would bring about, or to answer for kinds "
        "of cases that the data do not contain.",
        *use_case.limits,
        f"On the {len(subject.test.y):,} rows of the hold-out, {name} is {subject.metric(HOLD_OUT)}"
        f"{subject.within(subject.headline)}: a difference within this interval may be chance.",
    ]
    if len(manifest.trials) > 1:
        points.append(
            f"The cross-validation figure is that of the best of {len(manifest.trials)} trials, on the folds that "
            "chose it, so it flatters."
        )
    if CHRONOLOGICAL in manifest.metrics:
        points.append(
            "The hold-out is from the same time as the training part. Rows close together in time are alike, so it "
            f"flatters a model that will be asked about the future: split by time, {name} is "
            f"{subject.metric(CHRONOLOGICAL)}."
        )
    protected = [feature.name for feature in use_case.features if feature.protected]
    if protected:
        points.append(f"People must not be judged by: {', '.join(protected)}. Other columns may stand in for them.")
    return Section("Intended use and limits", points=points)


def _found(feature: Feature, values: "pd.Series[Any]") -> str:
    """What the training part holds of a feature."""
    known = values.dropna()
    missing = "" if len(known) == len(values) else f"; {share(1 - len(known) / len(values))} missing"
    if not len(known):
        return "nothing"
    if isinstance(feature, Number):
        low, middle, high = np.quantile(known.astype(float), [0.05, 0.5, 0.95])
        return f"median {middle:,.10g}, nine in ten from {low:,.10g} to {high:,.10g}{missing}"
    if isinstance(feature, Moment):
        moments = known.unique().tolist()
        return f"from {min(moments)} to {max(moments)}{missing}"
    counts = known.value_counts()
    counts = counts[counts > 0]  # the column's categories are those of the whole table
    if counts.iloc[0] == 1:
        return f"{len(counts):,} distinct values{missing}"
    return f"mostly {counts.index[0]} ({share(counts.iloc[0] / len(known))}){missing}"


def _pairs(values: Any) -> list[list[str]]:
    return [[name, _shown(value)] for name, value in values.items()]


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
