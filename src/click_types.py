"""Types of command-line arguments."""

import click

from tabserve.errors import InvalidUseCaseError, UnknownUseCaseError


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
