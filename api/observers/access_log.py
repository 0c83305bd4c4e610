"""A line in the log for each request: its route, and nothing else of its path, no query and no body."""

import logging

from tabserve.api.observers.observer import Answered, Observer

logger = logging.getLogger("tabserve.access")


class AccessLog(Observer):
    """Writes the lines."""

    def answered(self, answered: Answered) -> None:
        """Write a line."""
        fields = {
            "method": answered.method,
            "route": answered.route,
            "status": answered.status,
            "ms": round((answered.ended - answered.begun) / 1e6, 3),
            "bytes": answered.size,
        }
        logger.info("%s %s %d in %.3f ms, %d bytes", *fields.values(), extra={"fields": fields})
