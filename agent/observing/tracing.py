"""The span of a turn, the ids that log lines of the turn carry, and where spans are sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

from opentelemetry import context, trace

from ...skills.errors import BadConfiguration
from ...skills.tracing import close_provider, exporting_provider
from ...skills.worker import COLLECTOR_VARIABLE

__all__ = ["TurnIds", "current_turn", "setup_tracing", "trace_id", "turn_span"]


class TurnIds(NamedTuple):
    """Which turn the code that runs here belongs to; empty outside of turns."""

    conversation: str = ""
    turn: str = ""


_NO_TURN = TurnIds()
_current: ContextVar[TurnIds] = ContextVar("turn", default=_NO_TURN)


def setup_tracing(
    otlp_endpoint: str | None, *, service: str = "llava-plus-gateway"
) -> Callable[[], None]:
    """Send the spans of this process to a collector; without an endpoint there are none.

    `otlp_endpoint` is the address under which `/v1/traces` takes OTLP over HTTP; workers that
    are started from here on send theirs there too. To be called once, before requests are taken;
    what it gives is to be called at the end and sends the last spans, as `close_provider` does.
    Raises `BadConfiguration`.
    """
    if not otlp_endpoint:
        return lambda: None
    provider = exporting_provider(otlp_endpoint, service=service)
    trace.set_tracer_provider(provider)
    if trace.get_tracer_provider() is not provider:
        provider.shutdown()
        raise BadConfiguration("this process sends its spans somewhere already")
    if not os.environ.get(COLLECTOR_VARIABLE):
        os.environ[COLLECTOR_VARIABLE] = otlp_endpoint
    return partial(close_provider, provider)


def current_turn() -> TurnIds:
    """The turn that the code which asks belongs to."""
    return _current.get()


def trace_id() -> str:
    """The id of the trace to which the code that asks belongs, in hexadecimal; empty if none."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


@contextmanager
def turn_span(conversation_id: str, turn_id: str) -> Iterator[trace.Span]:
    """A span `turn`, under which spans of its replies and calls come, in tasks begun within too.

    It may be left in another task than it was entered in, as happens to a `with` around the
    `yield` of an asynchronous generator.
    """
    span = trace.get_tracer(__name__).start_span(
        "turn",
        attributes={"gen_ai.conversation.id": conversation_id, "llava_plus.turn.id": turn_id},
    )
    before, outside = _current.get(), context.get_current()
    ours = _current.set(TurnIds(conversation_id, turn_id))
    attached = context.attach(trace.set_span_in_context(span))
    try:
        yield span
    finally:
        span.end()
        try:
            _current.reset(ours)
        except ValueError:  # another task has a context of its own, where the tokens mean nothing
            _current.set(before)
            context.attach(outside)
        else:
            context.detach(attached)
