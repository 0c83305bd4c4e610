"""Types of command-line arguments."""

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
