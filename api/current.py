"""What the running application holds for its requests."""

from typing import Any

from flask import current_app

from tabserve.log import MARKS
from tabserve.predictor import Predictor
from tabserve.settings import Settings


def extension(name: str) -> Any:
    """An extension of the application, by its name."""
    # from the application itself: Flask's proxy takes eight times as long, and a request looks up several
    return current_app._get_current_object().extensions[name]  # type: ignore[attr-defined]


def predictor() -> Predictor:
    """The application's predictor."""
    found: Predictor = extension("predictor")
    return found


def request_id() -> str:
    """The id of the request that is answered."""
    return MARKS.get().request_id


def settings() -> Settings:
    """The settings that the application was made with."""
    found: Settings = extension("settings")
    return found
