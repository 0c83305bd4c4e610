"""`/`: the page for people; its forms are made from the use cases' declarations."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, render_template, send_from_directory

from tabserve.api import current
from tabserve.api.headers import protect
from tabserve.columns.features import Feature
from tabserve.declaration.discovery import all_use_cases
from tabserve.declaration.use_case import UseCase
from tabserve.errors import NoModelError, TabserveError, UnavailableError
from tabserve.evaluation.metrics import CROSS_VALIDATION, HOLD_OUT
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
    headline: float
    interval: tuple[float, float] | None
    cross_validation: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Form:
    """A use case as the page shows it.

    Parameters
    ----------
    use_case : UseCase
        The use case.
    controls : list of Control
        One for each feature.
    labels : dict
        The title of each column, derived ones included.
    example_csv : str
        An example of a file to upload.
    outcomes : tuple of str
        What the classes are called, in the order of their codes; empty when a number is predicted.
    models : list of ModelCard
        The newest models, the champion first.
    problems : list of str
        Why models are missing.
    """

    use_case: UseCase
    controls: list[Control]
    labels: dict[str, str]
    example_csv: str
    outcomes: tuple[str, ...]
    models: list[ModelCard]
    problems: list[str]


@blueprint.get("/")
def page() -> Response:
    """Show the use cases, each with a form, the answer to it, and the models."""
    settings = current.settings()
    use_cases = sorted(all_use_cases().values(), key=lambda use_case: use_case.name != settings.default_use_case)
    forms = [_form(use_case, current.predictor().registry) for use_case in use_cases]
    response = make_response(render_template("page.html", forms=forms, settings=settings))
    response.headers["Cache-Control"] = "no-cache"  # models come and go
    return response


@blueprint.get(f"/<any({', '.join(map(repr, FILES))}):name>")
def file(name: str) -> Response:
    """Send one of the page's own files; a browser asks each time whether it has changed."""
    return send_from_directory(Path(__file__).parent / "static", name)


def _form(use_case: UseCase, registry: Registry) -> Form:
    models, problems = _models(use_case, registry)
    return Form(
        use_case=use_case,
        controls=[Control.of(feature, use_case.example.get(feature.name)) for feature in use_case.features],
        labels={column.name: column.title for column in use_case.columns},
        example_csv=write_csv([feature.name for feature in use_case.features], [use_case.example]),
        outcomes=use_case.task.outcomes,
        models=models,
        problems=problems,
    )


def _models(use_case: UseCase, registry: Registry) -> tuple[list[ModelCard], list[str]]:
    """The newest models of a use case, and what is wrong with others; manifests are read, no model is loaded."""
    try:
        model_ids = registry.list(use_case.name)[:MOST_MODELS]
        champion = registry.champion(use_case.name)
    except UnavailableError as error:
        return [], [str(error)]
    problems = [] if model_ids else [str(NoModelError(use_case.name))]
    if champion:
        model_ids = list(dict.fromkeys([champion, *model_ids]))
    manifests = []
    for model_id in model_ids:
        try:
            manifests.append(registry.manifest(model_id))
        except TabserveError as error:
            problems.append(str(error))
    if manifests and champion is None:  # the newest one answers
        champion = manifests[0].model_id
    headline = use_case.task.headline
    return [_card(manifest, headline, is_champion=manifest.model_id == champion) for manifest in manifests], problems


def _card(manifest: Manifest, headline: str, *, is_champion: bool) -> ModelCard:
    metrics = manifest.metrics
    return ModelCard(
        model_id=manifest.model_id,
        algorithm=manifest.algorithm,
        created=datetime.fromisoformat(manifest.created),
        is_champion=is_champion,
        headline=metrics[HOLD_OUT][headline],
        interval=manifest.intervals.get(headline),
        cross_validation=metrics[CROSS_VALIDATION][headline],
        metrics=metrics[HOLD_OUT],
    )
