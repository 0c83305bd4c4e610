"""Problems as RFC 9457 has them, as data: what went wrong, by a table of statuses. It needs no Flask."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from tabserve import errors
from tabserve.log import traced

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.TabserveError], HTTPStatus] = {
    errors.InvalidBodyError: HTTPStatus.BAD_REQUEST,
    errors.NothingToPredictError: HTTPStatus.BAD_REQUEST,
    errors.InvalidFieldsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidTableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownModelError: HTTPStatus.NOT_FOUND,
    errors.UnknownUseCaseError: HTTPStatus.NOT_FOUND,
    errors.UnapprovedModelError: HTTPStatus.NOT_FOUND,
    errors.NoDefaultUseCaseError: HTTPStatus.NOT_FOUND,
    errors.NoHoldOutError: HTTPStatus.NOT_FOUND,
    errors.UnknownJobError: HTTPStatus.NOT_FOUND,
    errors.NoResultError: HTTPStatus.NOT_FOUND,
    errors.TooManyRowsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.FileLimitError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedFileError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.AbandonedJobError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.NotExplainableError: HTTPStatus.NOT_IMPLEMENTED,
    errors.NoDecisionLogError: HTTPStatus.NOT_IMPLEMENTED,
    errors.UnknownDecisionError: HTTPStatus.NOT_FOUND,
    errors.NoModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NoApprovedModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BrokenArtifactError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreAwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyJobsError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.JobsAwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DecisionLogAwayError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DecisionLogFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NewerDecisionLogError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NoMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem_of(error: Exception, statuses: Mapping[type[errors.TabserveError], int] = STATUS) -> dict[str, Any]:
    """The problem that an error is; one that has no status is logged, and the problem tells nothing of it."""
    if not isinstance(error, errors.TabserveError) or type(error) not in statuses:
        logger.error("unexpected %s", traced(error))
        return problem_body(500, "Something went wrong here; it has been logged.")
    status = statuses[type(error)]
    if isinstance(error, errors.InvalidTableError):
        return problem_body(status, "The file cannot be used: see errors.", error.by_column())
    return problem_body(status, str(error), getattr(error, "by_field", None))


def problem_body(status: int, detail: str, by_field: Any = None) -> dict[str, Any]:
    """What a problem says."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return {**body, "errors": by_field} if by_field else body
