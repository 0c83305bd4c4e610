"""`/`: the page for people; its forms are made from the models that answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from tabserve.api import current
from tabserve.api.headers import protect
from tabserve.columns.boolean import Boolean
from tabserve.columns.carried import Id
from tabserve.columns.dates import Date, Datetime
from tabserve.columns.features import LARGEST_NUMBER, Category, Feature, Number, sentences
from tabserve.errors import TabserveError, UnavailableError
from tabserve.evaluation.metrics import CROSS_VALIDATION, HOLD_OUT
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact, Declared
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry
from tabserve.tables.formats import ENDINGS
from tabserve.tables.writer import write_csv

FILES = ("page.css", "page.js", "icon.svg")
MOST_SUGGESTED = 100  # values of a category that a field suggests
MOST_MODELS = 10  # the newest of a use case: the page must stay small

_LOCAL = re.compile("[ t]")  # what may stand between date and time, where an input has a T

blueprint = Blueprint("page", __name__)
blueprint.after_request(protect)


@dataclass(frozen=True)
class Control:
    """How a form asks for a feature.

    Parameters
    ----------
    feature : Feature
        The feature.
    kind : str
        `select`, or the type of an input: `number`, `date`, `datetime-local` or `text`.
    help : str
        What is said below it.
    value : object
        What it is filled with.
    options : tuple of (object, str)
        The values of a select, each with its words, or what an input for texts suggests.
    limits : mapping
        Attributes of an input that bound its values.
    """

    feature: Feature
    kind: str
    help: str
    value: Any
    options: Sequence[tuple[Any, str]] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, feature: Feature, value: Any) -> "Control":
        """The control of a feature, filled with a value."""
        schema = feature.json_schema()
        help_ = schema["description"]
        kind, options = "text", [(option, option) for option in schema.get("enum", ()) if option is not None]
        if options:
            kind = "select"
        elif isinstance(feature, Boolean):
            kind, options = "select", [("true", feature.words[True]), ("false", feature.words[False])]
            value = value if value is None else str(value).lower()
        elif isinstance(feature, Category):
            options = [(known, known) for known in feature.values[:MOST_SUGGESTED]]
            if feature.other:
                help_ = sentences(
                    feature.description or feature.title, f"Any other value is treated as {feature.other}."
                )
        elif isinstance(feature, Number | Date):
            kind = "number" if isinstance(feature, Number) else "date"
        elif isinstance(feature, Datetime):
            kind, value = "datetime-local", value and _LOCAL.sub("T", value[:19])
        if not feature.description:  # then its title stands in for it, and above the control already
            help_ = help_.removeprefix(feature.title).removeprefix(". ")
        return cls(feature, kind, help_, value, options, _limits(feature, schema))

    @property
    def label(self) -> str:
        """The feature's title, with its unit."""
        unit = self.feature.unit if isinstance(self.feature, Number) else ""
        return f"{self.feature.title} ({unit})" if unit else self.feature.title


def _limits(feature: Feature, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that bound what is typed; bounds that nobody declared are left out."""
    if isinstance(feature, Number):
        bounds = {"min": feature.low, "max": feature.high}
        step = 1 if "integer" in schema["type"] else "any"
        return {"step": step, **{name: bound for name, bound in bounds.items() if abs(bound) < LARGEST_NUMBER}}
    if isinstance(feature, Date | Datetime):
        of_seconds = {"step": 1} if isinstance(feature, Datetime) else {}
        return {**of_seconds, **{name: bound for name, bound in (("min", feature.low), ("max", feature.high)) if bound}}
    return {"maxlength": schema["maxLength"]} if "maxLength" in schema else {}


@dataclass(frozen=True)
class ModelCard:
    """What the page says about a model."""

    model_id: str
    algorithm: str
    created: datetime
    is_champion: bool
    metric: str
    headline: float
    interval: tuple[float, float] | None
    cross_validation: float
    metrics: Mapping[str, float]
    verdict: str


@dataclass(frozen=True)
class Form:
    """A use case as the page shows it.

    Parameters
    ----------
    name : str
        The use case.
    declared : Declared or None
        What the model that answers was trained for; None when no model answers.
    controls : list of Control
        One for each feature.
    models : list of ModelCard
        The newest models, the champion first.
    problems : list of str
        Why models are missing.
    """

    name: str
    declared: Declared | None
    controls: list[Control]
    models: list[ModelCard]
    problems: list[str]

    @property
    def title(self) -> str:
        """The use case's title; without a model that says it, its name as words."""
        return self.declared.title if self.declared else self.name.replace("_", " ").capitalize()

    @property
    def labels(self) -> dict[str, str]:
        """The title of each column, derived ones included."""
        assert self.declared
        return {column.name: column.title for column in self.declared.columns}

    @property
    def example_csv(self) -> str:
        """An example of a file to upload."""
        assert self.declared
        return write_csv([feature.name for feature in self.declared.features], [self.declared.example])


@blueprint.get("/")
def page() -> Response:
    """Show the use cases, each with a form, the answer to it, and the models."""
    predictor = current.predictor()
    try:
        forms, problem = [_form(name, predictor) for name in predictor.use_cases()], None
    except UnavailableError as error:
        forms, problem = [], str(error)
    settings, endings = current.settings(), ",".join(ENDINGS)
    content = render_template("page.html", forms=forms, problem=problem, settings=settings, endings=endings)
    response = make_response(content)
    response.headers["Cache-Control"] = "no-cache"  # models come and go
    return response


@blueprint.get(f"/<any({', '.join(map(repr, FILES))}):name>")
def own_file(name: str) -> Response:
    """Send one of the page's own files; a browser asks each time whether it has changed."""
    return send_from_directory(Path(__file__).parent / "static", name)


def _form(name: str, predictor: Predictor) -> Form:
    artifact: Artifact | None = None
    problems = []
    try:
        artifact = predictor.resolve(name)
    except TabserveError as error:
        problems.append(str(error))
    models, others = _models(name, artifact, predictor.registry)
    declared = artifact.declared if artifact else None
    example = declared.example if declared else {}
    return Form(
        name=name,
        declared=declared,
        controls=[Control.of(column, example.get(column.name)) for column in (_asked(declared) if declared else ())],
        models=models,
        problems=list(dict.fromkeys([*problems, *others])),
    )


def _asked(declared: Declared) -> Sequence[Feature]:
    """The columns that a form asks for: what tells records from others comes last."""
    return (*declared.features, *(extra for extra in declared.extras if isinstance(extra, Id)))


def _models(name: str, artifact: Artifact | None, registry: Registry) -> tuple[list[ModelCard], list[str]]:
    """The newest models of a use case, and what is wrong with others; manifests are read, no model is loaded."""
    try:
        model_ids = registry.list(name)[:MOST_MODELS]
        champion = registry.histories.champion(name)
    except UnavailableError as error:
        return [], [str(error)]
    champion = champion or (artifact.model_id if artifact else None)
    if champion:
        model_ids = list(dict.fromkeys([champion, *model_ids]))
    manifests, problems = [], []
    for model_id in model_ids:
        try:
            manifests.append(registry.manifest(model_id))
        except TabserveError as error:
            problems.append(str(error))
    return [_card(manifest, is_champion=manifest.model_id == champion) for manifest in manifests], problems


def _card(manifest: Manifest, *, is_champion: bool) -> ModelCard:
    metrics, headline = manifest.metrics, manifest.headline
    return ModelCard(
        model_id=manifest.model_id,
        algorithm=manifest.algorithm,
        created=datetime.fromisoformat(manifest.created),
        is_champion=is_champion,
        metric=headline,
        headline=metrics[HOLD_OUT][headline],
        interval=manifest.intervals.get(headline),
        cross_validation=metrics[CROSS_VALIDATION][headline],
        metrics=metrics[HOLD_OUT],
        verdict=manifest.verdict,
    )
