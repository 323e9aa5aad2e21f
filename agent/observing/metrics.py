"""The figures that Prometheus reads from GET /metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import Response

from ...model.lmm import Usage

__all__ = ["Metrics", "metrics_response"]

_LONG = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted, in a registry of its own, so that one process may hold several.

    Values of labels come from small fixed sets: callers give the names of models and skills on
    offer, kinds of errors and templates of routes, never what a client sent.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_turns()
        self._add_lmm()
        self._add_skills()
        self._add_http()

    def _add_turns(self) -> None:
        self._turns = self._counter("turns", "Turns that have ended.", ["state"])
        self._turns_in_flight = self._gauge("turns_in_flight", "Turns that run now.")
        self._turn_seconds = self._histogram("turn_seconds", "Time of a whole turn.", [], _LONG)
        self._turn_errors = self._counter(
            "turn_errors", "Errors that kept a turn from its answer.", ["kind"]
        )

    def _add_lmm(self) -> None:
        by_model = ["model"]
        self._replies = self._counter("lmm_replies", "Replies.", ["model", "outcome"])
        self._reply_seconds = self._histogram(
            "lmm_reply_seconds", "Time of a whole reply.", by_model, _LONG
        )
        self._first_token_seconds = self._histogram(
            "lmm_first_token_seconds", "Time to the first token of a reply.", by_model, _SHORT
        )
        self._prompt_tokens = self._counter("lmm_prompt_tokens", "Tokens of prompts.", by_model)
        self._cached_tokens = self._counter(
            "lmm_cached_tokens", "Tokens of prompts that were not computed again.", by_model
        )
        self._completion_tokens = self._counter(
            "lmm_completion_tokens", "Tokens of replies.", by_model
        )

    def _add_skills(self) -> None:
        self._calls = self._counter(
            "skill_calls", "Calls that reached the dispatcher.", ["skill", "outcome"]
        )
        self._call_seconds = self._histogram(
            "skill_call_seconds", "Time of a call, waiting included.", ["skill"], _SHORT
        )
        self._refusals = self._counter(
            "skill_refusals", "Calls that a worker did not take up.", ["skill", "kind"]
        )

    def _add_http(self) -> None:
        self._requests = self._counter(
            "http_requests", "Requests that were answered.", ["method", "route", "status"]
        )
        self._request_seconds = self._histogram(
            "http_request_seconds",
            "Time of a request, to the last byte of its answer.",
            ["method", "route"],
            _SHORT,
        )
        self._open_streams = self._gauge("http_open_streams", "Event streams that are open.")

    def _counter(self, name: str, told: str, labels: Sequence[str]) -> Callable[..., Counter]:
        """Counters by the values of their labels, each of which is looked up once."""
        return cache(Counter(f"llava_plus_{name}", told, labels, registry=self.registry).labels)

    def _gauge(self, name: str, told: str) -> Gauge:
        return Gauge(f"llava_plus_{name}", told, registry=self.registry)

    def _histogram(
        self, name: str, told: str, labels: Sequence[str], buckets: Sequence[float]
    ) -> Callable[..., Histogram]:
        """As `_counter`; without labels there is one."""
        every = Histogram(
            f"llava_plus_{name}", told, labels, registry=self.registry, buckets=buckets
        )
        return cache(every.labels) if labels else lambda: every

    def turn_began(self) -> None:
        """Count a turn that now runs; `turn_ended` follows in any case."""
        self._turns_in_flight.inc()

    def turn_ended(self, state: str, seconds: float, error: str = "") -> None:
        """Count a turn that has ended; `error` is the kind of what kept it from an answer."""
        self._turns_in_flight.dec()
        self._turns(state).inc()
        self._turn_seconds().observe(seconds)
        if error:
            self._turn_errors(error).inc()

    def reply_ended(
        self, model: str, outcome: str, seconds: float, *, first: float | None, usage: Usage
    ) -> None:
        """Count a reply of an LMM; `first` are the seconds to its first token, if one came."""
        self._replies(model, outcome).inc()
        self._reply_seconds(model).observe(seconds)
        if first is not None:
            self._first_token_seconds(model).observe(first)
        self._prompt_tokens(model).inc(usage.prompt_tokens)
        self._cached_tokens(model).inc(usage.cached_tokens)
        self._completion_tokens(model).inc(usage.completion_tokens)

    def call_ended(self, skill: str, outcome: str, seconds: float) -> None:
        """Count a skill call that came back, however it did."""
        self._calls(skill, outcome).inc()
        self._call_seconds(skill).observe(seconds)

    def call_refused(self, skill: str, kind: str) -> None:
        """Count a worker's refusal, after which the call waits or goes to another worker."""
        self._refusals(skill, kind).inc()

    def stream_opened(self) -> None:
        """Count an event stream; `stream_closed` follows in any case."""
        self._open_streams.inc()

    def stream_closed(self) -> None:
        """Count the end of an event stream."""
        self._open_streams.dec()

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request by the template of its route."""
        self._requests(method, route, str(status)).inc()
        self._request_seconds(method, route).observe(seconds)


def metrics_response(metrics: Metrics) -> Response:
    """The answer to GET /metrics, in Prometheus' text format 0.0.4."""
    text = generate_latest(metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
