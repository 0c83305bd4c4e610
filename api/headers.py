"""Headers of the pages that a browser shows."""

from flask import Response

HEADERS = {
    "Content-Security-Policy": (  # data: for the arrows that Swagger UI's style sheet draws
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def protect(response: Response) -> Response:
    """Let a page load and call only the service, and be shown in no other page."""
    response.headers.update(HEADERS)
    return response
