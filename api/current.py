"""What the running application holds for its requests."""

from flask import current_app
from tabserve.predictor import Predictor
from tabserve.settings import Settings


def predictor() -> Predictor:
    """The models, and what they answer."""
    found: Predictor = current_app.extensions["predictor"]
    return found


def settings() -> Settings:
    """The settings that the application was made with."""
    found: Settings = current_app.extensions["settings"]
    return found
