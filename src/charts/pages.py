"""Pages: HTML that loads nothing, in one look."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent


def render_page(template: str = "page.html", folder: Path = HERE, **values: Any) -> str:
    """Fill in a page.

    Parameters
    ----------
    template : str
        The file's name; it may extend `page.html`, which needs `title`, `description` and `sections`.
    folder : Path
        Where it is.
    **values
        What it shows.

    Returns
    -------
    str
    """
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
