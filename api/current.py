"""What the running application holds for its requests."""

from typing import Any

from flask import current_app
from tabserve.predictor import Predictor
from tabserve.settings import Settings


def extension(name: str) -> Any:
    """What the application keeps under a name."""
    # of the application itself: to look it up through Flask's proxy takes eight times as long, several times a request
    return current_app._get_current_object().extensions[name]  # type: ignore[attr-defined]


def predictor() -> Predictor:
    """The models, and what they answer."""
    found: Predictor = extension("predictor")
    return found


def settings() -> Settings:
    """The settings that the application was made with."""
    found: Settings = extension("settings")
    return found
