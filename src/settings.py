"""All settings: the default, the meaning and the allowed values of each."""

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tabserve.errors import InvalidSettingError, in_short
from tabserve.registry.model_id import USE_CASE
from tabserve.registry.registry import Registry
from tabserve.registry.stores import (
    DEFAULT_CACHE,
    DEFAULT_FOLDER,
    LOCATION_FORM,
    Location,
    parse_folder,
    parse_location,
)
from tabserve.use_cases import DEFAULT_FOLDER as DEFAULT_FOLDER_OF_USE_CASES

DEFAULT_USE_CASE = "credit"  # what training means by default, and the service where it has several use cases
_DATABASE = re.compile(
    r"sqlite:///[^?#]+"
    r"|postgresql(\+psycopg)?://([^:/@?#\s]*(:[^@/?#\s]*)?@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*)(:[0-9]{1,5})?/[^/?#\s]+"
    r"(\?[a-z_]+=[^&#\s]*(&[a-z_]+=[^&#\s]*)*)?"
)
EMBEDDED_LOG = "sqlite:///decisions.db"  # what DECISION_LOG=on means
DAYS = {"d": 1, "w": 7, "y": 366}
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _setting(default: Any, meaning: str, expected: str, parse: Callable[[str], Any]) -> Any:
    return field(default=default, metadata={"meaning": meaning, "expected": expected, "parse": parse})


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError
    return int(text)


def _not_negative(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _within_an_hour(text: str) -> int:
    if _positive(text) > 3600:
        raise ValueError
    return int(text)


def _port(text: str) -> int:
    if _positive(text) > 65535:
        raise ValueError
    return int(text)


def _true_or_false(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _file(text: str) -> Path:
    if not text or Path(text).is_dir():
        raise ValueError
    return Path(text)


def _rate_limit(text: str) -> str:
    from limits import parse_many  # imported here: most services have no limit

    if not all(limit.amount for limit in parse_many(text)):
        raise ValueError
    return text


def _storage(text: str) -> str:
    address = urlsplit(text)
    if text == "memory://":
        return text
    if address.scheme not in ("redis", "rediss") or not address.hostname:
        raise ValueError
    from redis import Redis, RedisError  # imported here: 25 MB

    try:
        Redis.from_url(text).connection_pool.make_connection()  # checks the options without connecting
    except (TypeError, RedisError):
        raise ValueError from None
    return text


def _database(text: str) -> str:
    if not _DATABASE.fullmatch(text) or ":memory:" in text:  # SQLAlchemy takes 0.2 s to import, and may not be needed
        raise ValueError
    return text


def _keys(text: str) -> str:
    if not all(key.strip() for key in text.split(",")):
        raise ValueError
    text.encode()  # a UnicodeEncodeError is a ValueError
    return text


def _metrics(text: str) -> str:
    if text not in ("off", "path"):
        _port(text.removeprefix(":"))
        if text[0] != ":":
            raise ValueError
    return text


def _decision_log(text: str) -> str:
    return EMBEDDED_LOG if text == "on" else _database(text)


def _days(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in DAYS:
        raise ValueError
    return _positive(number) * DAYS[unit]


def _shadows(text: str) -> tuple[tuple[str, str], ...]:
    parts = [pair.split(":") for pair in text.split(",")]
    pairs = tuple((use_case.strip(), model_id.strip()) for use_case, model_id in parts)
    if not all(USE_CASE.fullmatch(use_case) and model_id for use_case, model_id in pairs):
        raise ValueError
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return pairs


def _web_address(text: str) -> str:
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError
    return text


def _use_case(text: str) -> str:
    if not USE_CASE.fullmatch(text):
        raise ValueError
    return text


def _use_cases(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_use_case(name.strip()) for name in text.split(",")))


def _one_of(choices: Collection[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return parse


def _folders(text: str) -> tuple[Path, ...]:
    folders = tuple(map(Path, text.split(os.pathsep)))
    if "" in text.split(os.pathsep) or not all(
        folder.is_dir() for folder in folders if folder != Path(DEFAULT_FOLDER_OF_USE_CASES)
    ):
        raise ValueError
    return folders


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(","))
    if not all(re.fullmatch(r"https?://[a-zA-Z0-9.-]+(:[0-9]{1,5})?", origin) for origin in origins):
        raise ValueError
    return origins


@dataclass(frozen=True)
class RegistrySettings:
    """Where the models are: the only settings of training and of the registry's commands.

    A field's environment variable is its name in capitals.
    """

    use_cases: tuple[Path, ...] = _setting(
        (Path(DEFAULT_FOLDER_OF_USE_CASES),),
        "Folders with use cases of one's own, separated as in PATH; those that ship are always there.",
        f"folders that exist, separated by {os.pathsep}",
        _folders,
    )
    model_registry: Location = _setting(
        DEFAULT_FOLDER,
        "Where the models are: a folder or an S3 bucket.",
        LOCATION_FORM,
        parse_location,
    )
    model_cache: Path = _setting(
        DEFAULT_CACHE,
        "Folder for copies of a bucket's files; the service starts and answers from it while the bucket is away.",
        "a path to a folder",
        parse_folder,
    )
    model_signing_key: str | None = _setting(
        None,
        "Secrets that sign manifests and champions, separated by commas: the first one signs, all are accepted, "
        "and what has no such signature is refused. None: nothing is signed.",
        "a text that is not empty, in UTF-8, or several, separated by commas",
        _keys,
    )
    approvals: int = _setting(
        1,
        "How many people make a model the champion: with 2, one proposes it and another approves it.",
        "1 or 2",
        lambda text: int(_one_of(("1", "2"))(text)),
    )
    decision_log: str | None = _setting(
        None,
        "The database of decisions: on for a file, decisions.db, or its address. None: nothing about a record is kept.",
        "on, or the address of a database such as sqlite:///decisions.db or postgresql://user:password@host/database",
        _decision_log,
    )

    compiled_trees: Path | None = _setting(
        None,
        "Folder where models' trees are kept as machine code, made by the system's C compiler when a model is first "
        "loaded; with the extra `trees`. Nobody else may write to it. None: trees are interpreted.",
        "a path to a folder",
        parse_folder,
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from environment variables, with defaults for those that are not set.

        Only the variables of this class's fields are read.

        Raises
        ------
        InvalidSettingError
            For an invalid value.
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
    def at_start(cls) -> Self:
        """The environment's settings; an invalid value ends the process with one line and no traceback."""
        try:
            return cls.from_environment()
        except InvalidSettingError as error:
            sys.exit(str(error))

    def open_registry(self) -> Registry:
        """The registry at `model_registry`."""
        return Registry(self.model_registry, self.model_signing_key, self.model_cache, approvals=self.approvals)


@dataclass(frozen=True)
class Settings(RegistrySettings):
    """The settings of the service, including those of its registry."""

    default_use_case: str | None = _setting(
        None,
        "The use case that `latest`, `champion` and `/predict` mean. None: the only one in the registry, or credit if "
        "there are several.",
        "the name of a use case: up to 50 lower-case letters, digits and underscores, a letter first",
        _use_case,
    )
    serve: tuple[str, ...] = _setting(
        (),
        "The use cases that are served, separated by commas; the service is ready when there is a model of each. None: "
        "all in the registry.",
        "names of use cases, separated by commas",
        _use_cases,
    )
    max_content_length: int = _setting(
        16 * 1024 * 1024, "Largest request body, in bytes.", "a whole number above 0", _positive
    )
    max_rows: int = _setting(
        100_000, "Most records in one table, as a list or a file.", "a whole number above 0", _positive
    )
    sync_rows: int = _setting(
        10_000,
        "Most records that are answered at once; larger tables, up to MAX_ROWS, are jobs.",
        "a whole number above 0",
        _positive,
    )
    max_file_seconds: int = _setting(
        25, "Longest time to read one file, in seconds.", "a whole number from 1 to 3600", _within_an_hour
    )
    database_url: str = _setting(
        "sqlite:///jobs.db",
        "Where jobs are kept: a file for all processes of one machine, or a PostgreSQL for several machines.",
        "the address of a database such as sqlite:///jobs.db or postgresql://user:password@host/database, with special "
        "letters of the password as in URLs",
        _database,
    )
    job_hours: int = _setting(
        24, "How long a job is kept after it has finished, in hours.", "a whole number above 0", _positive
    )
    job_workers: int = _setting(
        1,
        "Processes that answer jobs beside the service, 0 or 1; with 0, `tabserve worker` runs elsewhere.",
        "0 or 1",
        lambda text: int(_one_of(("0", "1"))(text)),
    )
    queue_ms: int = _setting(
        250,
        "Milliseconds that a request waits for its turn before it is refused with 503.",
        "a whole number above 0",
        _positive,
    )
    max_bodies_in_memory: int = _setting(
        64 * 1024 * 1024,
        "Bytes that request bodies may take in a worker, together; what comes then is refused with 503.",
        "a whole number above 0",
        _positive,
    )
    auth_required: bool = _setting(
        True,
        "Whether only users, added by `tabserve users add`, get predictions; when it is not set, "
        "the development server and `make serve` use false.",
        "true or false",
        _true_or_false,
    )
    auth_users_file: Path = _setting(
        Path("users.txt"), "File with the users' names and password hashes.", "a path to a file", _file
    )
    rate_limit: str | None = _setting(
        None,
        "How many predictions a user, or without users an address, may request; semicolons separate several limits.",
        "limits such as 100/minute or 10/second;5000/day",
        _rate_limit,
    )
    rate_limit_storage: str = _setting(
        "memory://",
        "Where workers count requests and failed logins; memory://: each worker counts its own.",
        "memory:// or the address of a Redis such as redis://host:6379, with TLS rediss://host:6379",
        _storage,
    )
    trusted_proxies: int = _setting(
        0,
        "How many reverse proxies in front of the service are trusted to set X-Forwarded-For; with 0 behind a load "
        "balancer, all clients seem to have one address.",
        "a whole number, 0 or more",
        _not_negative,
    )
    log_level: str = _setting(
        "INFO",
        "Lowest level of this service's messages in the log; those of other libraries are logged from WARNING.",
        f"one of {', '.join(LOG_LEVELS)}",
        _one_of(LOG_LEVELS),
    )
    log_format: str = _setting(
        "text",
        "How a line of the log is written: as a text, or as a JSON object.",
        "text or json",
        _one_of(("text", "json")),
    )
    access_log: bool = _setting(
        False,
        "Whether each request is logged, without its query and its body.",
        "true or false",
        _true_or_false,
    )
    otel_exporter_otlp_endpoint: str | None = _setting(
        None,
        "Where traces are sent by OpenTelemetry's protocol, with the extra `tracing`. None: nothing is traced.",
        "an address such as http://collector:4318",
        _web_address,
    )
    metrics: str = _setting(
        "off",
        "Where Prometheus finds the metrics: nowhere, at /metrics of the service, or at a port of their own.",
        "off, path or a port such as :9100",
        _metrics,
    )
    decision_spool: int = _setting(
        256 * 1024 * 1024,
        "Bytes of decisions that may wait for the database.",
        "a whole number above 0",
        _positive,
    )
    decision_spool_folder: Path = _setting(
        Path("decisions"), "Folder in which decisions wait for the database.", "a path to a folder", parse_folder
    )
    decision_fsync: str = _setting(
        "group",
        "Whether decisions are forced to the disk ten times a second, or each one before it is answered.",
        "group or each",
        _one_of(("group", "each")),
    )
    decision_log_full: str = _setting(
        "refuse",
        "What happens when DECISION_SPOOL is full: requests are refused with 503, or answered without being logged.",
        "refuse or drop",
        _one_of(("refuse", "drop")),
    )
    decision_retention: int | None = _setting(
        None,
        "How long decisions are kept. None: for ever.",
        "a number of days, weeks or years such as 90d, 52w or 7y",
        _days,
    )
    shadow: tuple[tuple[str, str], ...] = _setting(
        (),
        "Models that predict beside those that answer, into the decision log only. None: none.",
        "pairs of a use case and a model_id such as credit:MODEL_ID, separated by commas",
        _shadows,
    )
    approved_only: bool = _setting(
        False,
        "Whether only models answer that somebody has made champions.",
        "true or false",
        _true_or_false,
    )
    web_concurrency: int | None = _setting(
        None, "Worker processes of gunicorn. None: one for each CPU granted.", "a whole number above 0", _positive
    )
    max_connections: int = _setting(
        4_000,
        "Most connections of each worker; beyond that, idle ones are closed and new ones are told 503.",
        "a whole number above 0",
        _positive,
    )
    host: str = _setting(
        "0.0.0.0",  # noqa: S104 - a container's port is reached from outside
        "Address that gunicorn listens on; the development server always uses 127.0.0.1.",
        "an IP address of this machine",
        lambda text: str(ip_address(text)),
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        "Origins whose pages may call the service from a browser, separated by commas. None: only its own.",
        "origins such as https://example.org, separated by commas",
        _origins,
    )
    port: int = _setting(8080, "Port to listen on.", "a port number from 1 to 65535", _port)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from environment variables: see `RegistrySettings`."""
        settings = super().from_environment(environment)
        if settings.serve and settings.default_use_case not in (None, *settings.serve):
            raise InvalidSettingError("DEFAULT_USE_CASE", f"one of those in SERVE: {in_short(settings.serve)}")
        if settings.metrics_port == settings.port:
            raise InvalidSettingError("METRICS", "a port other than PORT")
        if settings.shadow and settings.decision_log is None:
            raise InvalidSettingError("SHADOW", "empty unless DECISION_LOG is set, where its predictions go")
        return settings

    def open_registry(self) -> Registry:
        """The registry at `model_registry`, where only what is served is seen."""
        return Registry(self.model_registry, self.model_signing_key, self.model_cache, self.serve, self.approvals)

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, if they have one of their own."""
        return int(self.metrics[1:]) if self.metrics[0] == ":" else None

    @property
    def rows_at_once(self) -> int:
        """Most records that are answered at once."""
        return min(self.sync_rows, self.max_rows)

    @property
    def graceful_timeout(self) -> int:
        """Seconds that a stopping worker has to answer accepted requests: time for a whole file, and 5 more."""
        return self.max_file_seconds + 5
