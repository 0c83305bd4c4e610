"""Types of command-line arguments."""

import re
import time
from datetime import UTC, datetime

import click

from tabserve.errors import InvalidUseCaseError, UnknownExecutorError, UnknownUseCaseError
from tabserve.executors import check_spec


class UseCaseName(click.ParamType[str]):
    """The name of a declared use case; declarations are imported only when one is given."""

    name = "use_case"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from tabserve.declaration.discovery import get_use_case

        try:
            return get_use_case(value).name
        except UnknownUseCaseError as error:
            self.fail(str(error), param, ctx)
        except InvalidUseCaseError as error:
            raise click.ClickException(str(error)) from None


class ExecutorSpec(click.ParamType[str]):
    """Where work is done: see `tabserve.executors`."""

    name = "executor"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_spec(value)
        except UnknownExecutorError as error:
            self.fail(str(error), param, ctx)


class PointInTime(click.ParamType[float]):
    """Seconds since 1970: a date or time in ISO 8601, UTC unless it says otherwise, or how long ago, such as 90d."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if ago := re.fullmatch(r"([0-9]{1,5})([hdwy])", value, re.ASCII):
            return time.time() - int(ago[1]) * SECONDS[ago[2]]
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither how long ago, such as 90d, nor a date such as 2026-03-01.", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


SECONDS = {"h": 3600, "d": 86_400, "w": 604_800, "y": 366 * 86_400}
