"""`GET /metrics`, where METRICS=path."""

from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, request

from tabserve.api.metrics import folder
from tabserve.api.metrics.catalogue import PATH

blueprint = APIBlueprint("metrics", __name__, tag="Metrics")


@blueprint.get(PATH)
@blueprint.output(FileSchema(type="string"), content_type="text/plain", description="The metrics")
def metrics() -> Response:
    """Give the metrics of all processes, in the format of Prometheus; with OpenMetrics in Accept, in that one."""
    return shown(request.headers.get("Accept", ""))


def shown(accept: str) -> Response:
    """The answer to who wants to see the metrics."""
    from tabserve.api.metrics.exposition import exposition  # imports prometheus-client, which few processes need

    content, media_type = exposition(folder.found() or folder.make(), accept)
    return Response(content, content_type=media_type)
