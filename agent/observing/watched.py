"""LMMs, dispatchers and turns that are measured while they work, and otherwise are the same."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ...model.conversation import Conversation
from ...model.lmm import LMM, Event, Replied, Usage
from ...model.sampling import Sampling, sampled
from ...skills import errors
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.images import ImageStore
from ...skills.tracing import outcome_of, tell_outcome
from ...skills.wire import Refused
from ..call_scope import CallScope
from ..dispatcher import Dispatcher
from ..loop import TurnEvent, TurnFinished
from ..worker_client import CallObserver, call_observer
from .metrics import Metrics
from .tracing import turn_span

__all__ = ["WatchedDispatcher", "WatchedLMM", "watched_turn"]

OTHER = "other"
"""In the place of every name that is not known here: a client could make up any number."""

log = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)
_w3c = TraceContextTextMapPropagator()


class WatchedLMM:
    """An LMM whose replies are counted, timed and traced, under its name or the one given."""

    def __init__(self, lmm: LMM, metrics: Metrics, *, model: str | None = None) -> None:
        self.name = lmm.name
        self._model = model or lmm.name
        self._lmm = lmm
        self._metrics = metrics

    def with_sampling(self, wanted: Sampling) -> WatchedLMM:
        """The same, around the LMM with its replies made as is `wanted`."""
        other = copy(self)
        other._lmm = sampled(self._lmm, wanted)
        return other

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply; see `LMM`."""
        with self._watching() as reply:
            events = self._lmm.reply(conversation, store, calls_allowed=calls_allowed)
            async with aclosing(events):
                async for event in events:
                    reply.note(event)
                    yield event

    async def aclose(self) -> None:
        """Give back what the model holds."""
        await self._lmm.aclose()

    @contextmanager
    def _watching(self) -> Iterator[_Reply]:
        # Not made current: a generator shares its context with whoever reads from it.
        span = _tracer.start_span(
            "lmm.reply",
            kind=trace.SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": self._model},
        )
        reply = _Reply()
        outcome = errors.BadReply.__name__  # what a reply without an end is
        try:
            yield reply
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            # Whoever has the whole reply may leave without asking for more.
            outcome = "ok" if reply.usage else outcome
            usage = reply.usage or Usage()
            self._metrics.reply_ended(
                self._model, outcome, reply.seconds, first=reply.first_token, usage=usage
            )
            if reply.usage:
                span.set_attributes(_usage_attributes(usage))
            tell_outcome(span, outcome)
            span.end()


class _Reply:
    """One reply as far as it has come."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._first_event: float | None = None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since it was asked for."""
        return time.perf_counter() - self._began

    @property
    def first_token(self) -> float | None:
        """Seconds to the first token, by the LMM itself if it tells: calls come only whole."""
        if self.usage and self.usage.first_token_seconds:
            return self.usage.first_token_seconds
        return self._first_event

    def note(self, event: Event) -> None:
        """Take in an event."""
        if self._first_event is None:
            self._first_event = self.seconds
        if isinstance(event, Replied):
            self.usage = event.usage


def _usage_attributes(usage: Usage) -> dict[str, int]:
    return {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }


class WatchedDispatcher:
    """A dispatcher whose calls are counted, timed, logged and traced, on to their workers.

    `skills` are names that may stand in figures; those that `specs` lists and those that have
    run join them.
    """

    def __init__(
        self, dispatcher: Dispatcher, metrics: Metrics, *, skills: Iterable[str] = ()
    ) -> None:
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._known = set(skills)

    async def specs(self) -> list[SkillSpec]:
        """Every skill on offer."""
        specs = await self._dispatcher.specs()
        self._known.update(spec.name for spec in specs)
        return specs

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use; see `Dispatcher`."""
        with self._watching(use.name) as call:
            result = await self._dispatcher.dispatch(use, scope)
            if result.error:
                call.outcome = _kind(result.error.kind)
            else:
                self._known.add(use.name)
            return result

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        await self._dispatcher.aclose()

    @contextmanager
    def _watching(self, name: str) -> Iterator[_Ended]:
        began, call = time.perf_counter(), _Ended("ok")
        with _tracer.start_as_current_span(
            "skill.dispatch",
            kind=trace.SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "execute_tool"},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            headers: dict[str, str] = {}
            _w3c.inject(headers)
            observer = CallObserver(headers, partial(self._refused, name))
            token = call_observer.set(observer)
            try:
                yield call
            except BaseException as error:
                call.outcome = outcome_of(error)
                raise
            finally:
                call_observer.reset(token)
                skill = self._label(name)
                span.set_attribute("gen_ai.tool.name", skill)
                tell_outcome(span, call.outcome)
                seconds = time.perf_counter() - began
                self._metrics.call_ended(skill, call.outcome, seconds)
                _log_call(skill, call.outcome, seconds)

    def _refused(self, name: str, error: Refused) -> None:
        self._metrics.call_refused(self._label(name), error.kind)

    def _label(self, name: str) -> str:
        return name if name in self._known else OTHER


@dataclass
class _Ended:
    """How a call or a turn ended: its outcome or state, and the kind of a turn's error."""

    outcome: str
    error: str = ""


@contextmanager
def watched_turn(
    tell: Callable[[TurnEvent], None],
    metrics: Metrics | None,
    conversation_id: str,
    turn_id: str,
) -> Iterator[Callable[[TurnEvent], None]]:
    """Count, time, log and trace the turn that is run within; gives whom it is to tell of events.

    They go on to `tell`. One that is left before its end counts as stopped.
    """
    began, turn = time.perf_counter(), _Ended("stopped")

    def watched(event: TurnEvent) -> None:
        if isinstance(event, TurnFinished):
            turn.outcome = "failed" if event.error else "finished"
            turn.error = event.error.kind if event.error else ""
        tell(event)

    if metrics:
        metrics.turn_began()
    with turn_span(conversation_id, turn_id) as span:
        try:
            yield watched
        except Exception as error:
            turn.outcome, turn.error = "failed", outcome_of(error)
            raise
        finally:
            seconds = time.perf_counter() - began
            if metrics:
                metrics.turn_ended(turn.outcome, seconds, turn.error)
            span.set_attribute("llava_plus.turn.state", turn.outcome)
            tell_outcome(span, turn.error or ("cancelled" if turn.outcome == "stopped" else "ok"))
            _log_turn(turn.outcome, turn.error, seconds)


def _kind(told: str) -> str:
    """The kind of an error as a worker tells it, where it is one of ours."""
    return told if told in errors.__all__ else OTHER


def _log_call(skill: str, outcome: str, seconds: float) -> None:
    fields = {
        "event": "skill_call",
        "skill": skill,
        "outcome": outcome,
        "seconds": round(seconds, 6),
    }
    log.info("skill %s: %s after %.3f s", skill, outcome, seconds, extra={"fields": fields})


def _log_turn(state: str, error: str, seconds: float) -> None:
    fields = {"event": "turn", "state": state, "error": error, "seconds": round(seconds, 6)}
    why = f" ({error})" if error else ""
    log.info("turn %s%s after %.3f s", state, why, seconds, extra={"fields": fields})
