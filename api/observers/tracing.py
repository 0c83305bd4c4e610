"""Traces: a span for each request, sent by OpenTelemetry's protocol from a thread.

Nothing of OpenTelemetry is imported unless OTEL_EXPORTER_OTLP_ENDPOINT is set. It reads its other variables itself,
such as OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS and OTEL_TRACES_SAMPLER.
"""

import os
import sys
from importlib import import_module
from random import getrandbits
from typing import Any

import tabserve
from tabserve.api.bridge import Scope
from tabserve.api.observers.observer import Answered, Observer
from tabserve.api.request_id import KEY, marks_of
from tabserve.errors import MissingExtraError
from tabserve.predictor import Predictor
from tabserve.settings import Settings

ROOT = "tabserve.is_root"  # in the scope of a request whose trace begins here
MODEL = "<model_id>"  # in a route
EXPORT_TIMEOUT = 5.0  # seconds; when the service stops, it waits for that
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
NEEDED = ("opentelemetry.sdk.trace.export", EXPORTER)


class Tracing(Observer):
    """Makes spans; create one in each process, after the fork, since it starts a thread.

    A span is made when its request is answered, of what is known then. Its trace and its parent are
    those of the client's `traceparent`. Without one, a trace begins here, and the answer names it.

    Parameters
    ----------
    endpoint : str
        The receiver's address.
    predictor : Predictor
        Knows which models are loaded.
    """

    def __init__(self, endpoint: str, predictor: Predictor) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._api = trace
        self._predictor = predictor
        self._ids = _Ids()
        name = os.environ.get("OTEL_SERVICE_NAME", "tabserve")
        resource = Resource.create({"service.name": name, "service.version": tabserve.__version__})
        provider = TracerProvider(resource=resource, id_generator=self._ids)  # type: ignore[arg-type]
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = provider.get_tracer("tabserve", tabserve.__version__)
        self.end = provider.shutdown

    def begin(self, scope: Scope) -> None:
        """Begin a trace if the request is part of none."""
        marks = marks_of(scope)
        if not marks.traceparent:
            traceparent = f"00-{_bits(128):032x}-{_bits(64):016x}-01"
            scope[KEY], scope[ROOT] = marks._replace(traceparent=traceparent), True

    def answered(self, answered: Answered) -> None:
        """Make the span of a request."""
        marks, is_root = marks_of(answered.scope), ROOT in answered.scope
        trace_id, span_id = int(marks.trace_id, 16), int(marks.traceparent[36:52], 16)
        self._ids.trace_id, self._ids.span_id = trace_id, span_id if is_root else _bits(64)
        span = self._tracer.start_span(
            f"{answered.method} {answered.route}",
            None if is_root else self._parent(trace_id, span_id, marks.traceparent),
            self._api.SpanKind.SERVER,
            {
                "http.request.method": answered.method,
                "http.route": answered.route,
                "http.response.status_code": answered.status,
                "tabserve.request_id": marks.request_id,
                **self._model(answered),
            },
            start_time=answered.begun,
        )
        if answered.status >= 500:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(answered.ended)

    def _parent(self, trace_id: int, span_id: int, traceparent: str) -> Any:
        flags = self._api.TraceFlags(int(traceparent[-2:], 16))
        context = self._api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return self._api.set_span_in_context(self._api.NonRecordingSpan(context))

    def _model(self, answered: Answered) -> dict[str, str]:
        """The loaded model that was asked, if one was."""
        parts = answered.route.split("/")
        name = answered.scope["path"].split("/")[parts.index(MODEL)] if MODEL in parts else "champion"
        is_of_model = MODEL in parts or answered.route == "/predict"
        artifact = self._predictor.loaded(name) if is_of_model else None
        if artifact is None:
            return {}
        return {"tabserve.use_case": artifact.manifest.use_case, "tabserve.model_id": artifact.model_id}


class _Ids:
    """Gives the ids that were set: the answer named them already."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return True


def _bits(number: int) -> int:
    """A random number of so many bits that is not 0, which stands for none."""
    return getrandbits(number) or 1


def check_at_start(settings: Settings) -> None:
    """Exit with one line and no traceback when traces are wanted and the extra is not installed.

    What is imported here, before the workers are forked, they share.
    """
    try:
        for name in NEEDED if settings.otel_exporter_otlp_endpoint else ():
            import_module(name)
    except ImportError as error:
        sys.exit(str(MissingExtraError("tracing", [error.name or str(error)])))
