"""Traces by OpenTelemetry: where spans go, and the span of a run. Imported only where it is on."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .errors import BadConfiguration, LlavaPlusError
from .extras import needing

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span as SdkSpan
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span

__all__ = ["RunSpans", "close_provider", "exporting_provider", "outcome_of", "tell_outcome"]

P = ParamSpec("P")
T = TypeVar("T")

_LAST_SECONDS = 2.0
"""For the last spans to get out; the exporter itself would try for longer to reach a collector."""


class RunSpans:
    """Spans of the runs of a worker, each under the span that the caller's headers name."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer(__name__)
        self._propagator = TraceContextTextMapPropagator()

    def around(
        self, skill: str, headers: Mapping[str, str], run: Callable[P, Awaitable[T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """The same as `run`, with a span `skill.run` while it goes on."""

        async def traced(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._span(skill, headers):
                return await run(*args, **kwargs)

        return traced

    def close(self) -> None:
        """Send what is not yet sent; see `close_provider`."""
        close_provider(self._provider)

    @contextmanager
    def _span(self, skill: str, headers: Mapping[str, str]) -> Iterator[None]:
        from opentelemetry.trace import SpanKind

        with self._tracer.start_as_current_span(
            "skill.run",
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"gen_ai.tool.name": skill},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                tell_outcome(span, outcome_of(error))
                raise
            tell_outcome(span, "ok")


def exporting_provider(endpoint: str, *, service: str) -> TracerProvider:
    """What makes spans and sends them to a collector at `endpoint`, by OTLP over HTTP.

    `OTEL_SERVICE_NAME` and the other variables of OpenTelemetry hold here too. Raises
    `BadConfiguration`.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise BadConfiguration(f"{endpoint!r} is no address of a collector: http://HOST:4318 is")
    with needing("telemetry", f"sending spans to {endpoint}"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    # An address given in code is taken as it is; that of the variable gets the path added.
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(_without_queries())
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _without_queries() -> SpanProcessor:
    """Takes the query out of FastAPI's own spans: people search for words of theirs."""
    from opentelemetry.sdk.trace import SpanProcessor

    class WithoutQueries(SpanProcessor):
        def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
            if span.attributes and "url.query" in span.attributes:
                span.set_attribute("url.query", "")

    return WithoutQueries()


def close_provider(provider: TracerProvider) -> None:
    """Send the last spans and make no more; takes two seconds at most.

    To be called before a server is through with SIGTERM, which ends the process at once.
    """
    closing = threading.Thread(target=provider.shutdown, daemon=True)
    closing.start()
    closing.join(_LAST_SECONDS)
    # What ends after that is dropped, as it should be, and the SDK would warn of each span.
    logging.getLogger("opentelemetry.sdk.trace.export").setLevel(logging.ERROR)


def outcome_of(error: BaseException) -> str:
    """One of a few words for how something ended that raised: what it says may be private."""
    if isinstance(error, LlavaPlusError):
        return error.kind
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return "fault"


def tell_outcome(span: Span, outcome: str) -> None:
    """Write into a span how its work ended: `ok`, `cancelled`, or the kind of an error."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("llava_plus.outcome", outcome)
    if outcome not in ("ok", "cancelled"):
        span.set_attribute("error.type", outcome)
        span.set_status(StatusCode.ERROR)
