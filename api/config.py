"""Every setting of the service: its default, what it means, and what it may be."""

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from src.errors import InvalidSettingError
from src.registry import DEFAULT_FOLDER, parse_folder, parse_key
from src.use_cases import all_use_cases

DEFAULT_USE_CASE = "credit"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _setting(default: Any, meaning: str, expected: str, parse: Callable[[str], Any]) -> Any:
    return field(default=default, metadata={"meaning": meaning, "expected": expected, "parse": parse})


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError
    return int(text)


def _port(text: str) -> int:
    if _positive(text) > 65535:
        raise ValueError
    return int(text)


def _one_of(choices: Collection[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(","))
    if not all(re.fullmatch(r"https?://[a-zA-Z0-9.-]+(:[0-9]{1,5})?", origin) for origin in origins):
        raise ValueError
    return origins


@dataclass(frozen=True)
class Settings:
    """The settings; each field's environment variable has the field's name in capitals."""

    model_registry: Path = _setting(DEFAULT_FOLDER, "Folder that holds the models.", "a path to a folder", parse_folder)
    model_signing_key: str | None = _setting(
        None,
        "Secret that signs the models' manifests; with it, unsigned models are refused. None: no signatures.",
        "a text that is not empty",
        parse_key,
    )
    default_use_case: str = _setting(
        DEFAULT_USE_CASE,
        "The use case that `latest`, `champion` and `/predict` mean.",
        f"the name of a use case: {', '.join(all_use_cases())}",
        _one_of(all_use_cases()),
    )
    max_content_length: int = _setting(
        16 * 1024 * 1024, "Largest request body, in bytes.", "a whole number above 0", _positive
    )
    max_rows: int = _setting(
        100_000, "Most records in one request, in a list or a file.", "a whole number above 0", _positive
    )
    log_level: str = _setting(
        "INFO", "Least severe messages that are logged.", f"one of {', '.join(LOG_LEVELS)}", _one_of(LOG_LEVELS)
    )
    web_concurrency: int | None = _setting(
        None, "Worker processes under gunicorn. None: one for each CPU granted.", "a whole number above 0", _positive
    )
    host: str = _setting(
        "0.0.0.0",  # noqa: S104 - a container's port is reached from outside
        "Address that gunicorn listens on; the development server always takes 127.0.0.1.",
        "an IP address of this machine",
        lambda text: str(ip_address(text)),
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        "Origins, separated by commas, whose pages may call the service from a browser. None: no other than its own.",
        "origins such as https://example.org, separated by commas",
        _origins,
    )
    port: int = _setting(8080, "Port to listen on.", "a port number from 1 to 65535", _port)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Settings from environment variables, defaults where there are none.

        Raises
        ------
        InvalidSettingError
            For a value that cannot be used; the message says what would do and does not repeat the value.
        """
        values = {}
        for setting in fields(cls):
            name = setting.name.upper()
            if name in environment:
                try:
                    values[setting.name] = setting.metadata["parse"](environment[name])
                except ValueError:
                    raise InvalidSettingError(name, setting.metadata["expected"]) from None
        return cls(**values)

    @classmethod
    def at_start(cls) -> "Settings":
        """The environment's settings; a value that cannot be used ends the process with one line and no traceback."""
        try:
            return cls.from_environment()
        except InvalidSettingError as error:
            sys.exit(str(error))
