"""`/`: the page for people; its forms are made from the models that answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from tabserve.api import current
from tabserve.api.headers import protect
from tabserve.columns.features import Feature
from tabserve.errors import TabserveError, UnavailableError
from tabserve.evaluation.metrics import CROSS_VALIDATION, HOLD_OUT
from tabserve.predictor import Predictor
from tabserve.registry.artifact import Artifact, Declared
from tabserve.registry.manifest import Manifest
from tabserve.registry.registry import Registry
from tabserve.tables.writer import write_csv

FILES = ("page.css", "page.js", "icon.svg")
MOST_MODELS = 10  # the newest of a use case: the page must stay small

blueprint = Blueprint("page", __name__)
blueprint.after_request(protect)


@dataclass(frozen=True)
class Control:
    """How a form asks for a feature: with a select if it has options, else with a field for a number or a text."""

    feature: Feature
    options: list[Any] | None
    low: float | None
    high: float | None
    is_whole: bool
    value: Any

    @classmethod
    def of(cls, feature: Feature, value: Any) -> "Control":
        """The control of a feature, filled with a value."""
        schema = feature.json_schema()
        options = schema.get("enum")
        return cls(
            feature=feature,
            options=None if options is None else [option for option in options if option is not None],
            low=schema.get("minimum"),
            high=schema.get("maximum"),
            is_whole="integer" in schema["type"],
            value=value,
        )


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
    content = render_template("page.html", forms=forms, problem=problem, settings=current.settings())
    response = make_response(content)
    response.headers["Cache-Control"] = "no-cache"  # models come and go
    return response


@blueprint.get(f"/<any({', '.join(map(repr, FILES))}):name>")
def file(name: str) -> Response:
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
        controls=[
            Control.of(feature, example.get(feature.name)) for feature in (declared.features if declared else ())
        ],
        models=models,
        problems=list(dict.fromkeys([*problems, *others])),
    )


def _models(name: str, artifact: Artifact | None, registry: Registry) -> tuple[list[ModelCard], list[str]]:
    """The newest models of a use case, and what is wrong with others; manifests are read, no model is loaded."""
    try:
        model_ids = registry.list(name)[:MOST_MODELS]
        champion = registry.champion(name)
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
    )
