"""What an operator sees of real turns: figures, the tree of spans, and log lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import Dispatcher, HttpDispatcher, LocalDispatcher
from llava_plus.agent.fleet import start_fleet
from llava_plus.agent.loop import Agent, TextDelta, TurnEvent, TurnFinished
from llava_plus.agent.observing.http import CountedRequests
from llava_plus.agent.observing.logs import setup_logging
from llava_plus.agent.observing.metrics import Metrics, metrics_response
from llava_plus.agent.observing.tracing import current_turn, setup_tracing, turn_span
from llava_plus.agent.observing.watched import WatchedDispatcher, WatchedLMM, watched_turn
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import LMM, Event, Replied, Usage
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.errors import BadConfiguration, UnknownSkill, WorkerUnavailable
from llava_plus.skills.worker import COLLECTOR_VARIABLE, create_app
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from starlette.requests import Request
from starlette.responses import Response

from ..serving import install_toys, serving, worker
from ..toy_skills import RELEASE, Crash, Hang, Noop, Refuse, Slow

DOCS = Path(__file__).parents[2] / "docs"


class Collector:
    """A collector of OpenTelemetry as an ASGI app: keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        assert scope["path"] == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(await Request(scope, receive).body())
        for resource in request.resource_spans:
            attributes = {item.key: item.value for item in resource.resource.attributes}
            self.services.add(attributes["service.name"].string_value)
            for scoped in resource.scope_spans:
                self.spans.extend(scoped.spans)
        await Response(b"", media_type="application/x-protobuf")(scope, receive, send)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    collector = Collector()
    with serving(collector) as url:
        yield collector, url


@pytest.fixture(scope="module")
def exporter(collector: tuple[Collector, str]) -> Iterator[InMemorySpanExporter]:
    """All spans of this process; a process can be told only once where they go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(COLLECTOR_VARIABLE, "")
        yield from _exporting(*collector)


def _exporting(collector: Collector, url: str) -> Iterator[InMemorySpanExporter]:
    close = setup_tracing(url)
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    close()
    kept = {span.span_id for span in collector.spans}
    ended = exporter.get_finished_spans()
    assert kept >= {ids.span_id.to_bytes(8) for span in ended if (ids := span.context)}


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process logs as JSON."""
    root, written = logging.getLogger(), io.StringIO()
    level, handlers = root.level, list(root.handlers)
    setup_logging(json=True, level="info", stream=written)
    yield written
    root.setLevel(level)
    root.handlers[:] = handlers


class Observed:
    """An agent whose parts are watched, and turns of it."""

    def __init__(self, lmm: LMM, dispatcher: Dispatcher, **options: Any) -> None:
        self.metrics = Metrics()
        self.dispatcher = WatchedDispatcher(dispatcher, self.metrics)
        self.agent = Agent(WatchedLMM(lmm, self.metrics), self.dispatcher, **options)
        self.numbers = iter(range(1, 100))

    async def turn(self, stop_at: type | None = None) -> TurnFinished | None:
        """Take a turn, or leave it at an event of a kind."""
        store = ImageStore()
        asked = Conversation(skills=tuple(await self.dispatcher.specs())).ask("my secret request")
        ids = "conv_1", f"turn_{next(self.numbers)}"
        events: asyncio.Queue[TurnEvent] = asyncio.Queue()

        async def run() -> None:
            with watched_turn(events.put_nowait, self.metrics, *ids) as watched:
                await self.agent.run(asked, store, watched)

        running = asyncio.create_task(run())
        try:
            while not isinstance(event := await events.get(), TurnFinished):
                if stop_at and isinstance(event, stop_at):
                    return None
            return event
        finally:
            running.cancel()
            await asyncio.wait([running])

    def figure(self, name: str, **labels: str) -> float:
        return figure(self.metrics, name, **labels)


def figure(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of the samples `llava_plus_NAME` that have these labels, 0 if there is none."""
    return sum(
        sample.value
        for sample in scraped(metrics)
        if sample.name == f"llava_plus_{name}" and sample.labels.items() >= labels.items()
    )


def scraped(metrics: Metrics) -> list[Sample]:
    text = bytes(metrics_response(metrics).body).decode()
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


def use(name: str, id_: str = "a", **arguments: object) -> SkillUse:
    return SkillUse(id=id_, name=name, arguments=arguments)


def named(spans: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


class Costly(ScriptedLMM):
    """Tells of every reply what a cache saved."""

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        async for event in super().reply(conversation, store, calls_allowed=calls_allowed):
            if isinstance(event, Replied):
                yield Replied(event.message, Usage(100, 80, 7, 0.25, 0.5))
            else:
                yield event


class Stuck(ScriptedLMM):
    """Says one word and no more; knows whether it was stopped."""

    stopped = False

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        try:
            yield TextDelta("Well")
            await asyncio.sleep(60)
            yield Replied(AssistantMessage(text="late"), Usage())
        finally:
            self.stopped = True


# --- spans


async def test_a_turn_is_one_tree_of_spans_that_reaches_into_the_workers_process(
    spans: InMemorySpanExporter,
    collector: tuple[Collector, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, _ = collector
    monkeypatch.setenv("PYTHONPATH", install_toys(tmp_path))
    script: list[Scripted] = [[use("noop", text="private"), use("refuse", "b")], "Both are back."]
    async with start_fleet([["noop", "refuse"]]) as fleet:
        observed = Observed(Costly(script), fleet.dispatcher())
        assert (await observed.turn()) is not None
        await observed.dispatcher.aclose()

    found = named(spans)
    (turn,), replies, calls = found["turn"], found["lmm.reply"], found["skill.dispatch"]
    assert turn.context
    assert turn.parent is None
    assert [span.parent and span.parent.span_id for span in replies + calls] == [
        turn.context.span_id
    ] * 4
    assert dict(turn.attributes or {})["gen_ai.conversation.id"] == "conv_1"
    assert dict(replies[0].attributes or {})["gen_ai.usage.cache_read.input_tokens"] == 80

    runs = {span.parent_span_id: span for span in kept.spans if span.name == "skill.run"}
    assert runs.keys() == {span.context.span_id.to_bytes(8) for span in calls if span.context}
    assert {span.trace_id for span in runs.values()} == {turn.context.trace_id.to_bytes(16)}
    outcomes = {
        attributes["gen_ai.tool.name"]: attributes["llava_plus.outcome"]
        for span in runs.values()
        if (attributes := {item.key: item.value.string_value for item in span.attributes})
    }
    assert outcomes == {"noop": "ok", "refuse": "SkillFailed"}
    assert "llava-plus-worker" in kept.services
    told = repr([span.attributes for span in spans.get_finished_spans()]) + repr(kept.spans)
    assert "private" not in told
    assert "secret" not in told
    assert "nothing to find" not in told


async def test_spans_of_requests_do_not_tell_what_was_searched_for(
    spans: InMemorySpanExporter,
) -> None:
    _, app = counted_app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        await client.get("/v1/items/1/parts/a?search=my+disease")
    requests = named(spans)["GET /v1/items/{number}/parts/{part}"]
    assert "disease" not in repr([span.attributes for span in requests])


async def test_only_a_call_that_is_traced_carries_a_header(spans: InMemorySpanExporter) -> None:
    seen: list[str] = []

    worker_app = create_app([Noop()])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            seen.append(dict(scope["headers"]).get(b"traceparent", b"").decode())
        await worker_app(scope, receive, send)

    with serving(app) as url:
        plain = HttpDispatcher([url])
        for dispatcher in (plain, WatchedDispatcher(plain, Metrics())):
            await dispatcher.dispatch(
                use("noop"), CallScope(store=ImageStore(), deadline=time.monotonic() + 9)
            )
        await plain.aclose()
    (call,) = named(spans)["skill.dispatch"]
    assert call.context is not None
    assert seen == [
        "",
        f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-{call.context.trace_flags:02x}",
    ]


async def test_a_turn_may_be_left_in_another_task_than_it_was_entered_in(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    async def turn() -> AsyncGenerator[str, None]:
        with turn_span("conv_1", "turn_1"):
            yield current_turn().turn
            yield "never read"

    events = turn()

    async def close() -> str:
        assert current_turn().turn == "turn_1"
        await events.aclose()
        return current_turn().turn

    async def begin() -> str:
        said = await anext(events)
        assert await asyncio.create_task(close()) == ""
        return said

    assert await asyncio.create_task(begin()) == "turn_1"
    assert current_turn().turn == ""
    assert len(named(spans)["turn"]) == 1
    assert not caplog.records


def test_nothing_that_exports_is_imported_where_nobody_asked_for_spans() -> None:
    code = (
        "import sys, llava_plus.skills.worker, llava_plus.agent.dispatcher\n"
        "from llava_plus.agent.observing.tracing import setup_tracing\n"
        "setup_tracing(None)\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))"
        " for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(BadConfiguration, match="'localhost' is no address of a collector"):
        setup_tracing("localhost")


# --- figures


async def test_a_turn_leaves_its_figures() -> None:
    with worker(Noop(), Refuse()) as url:
        script: list[Scripted] = [[use("noop"), use("refuse", "b")], "Both are back."]
        observed = Observed(Costly(script), HttpDispatcher([url]))
        assert await observed.turn()
        await observed.dispatcher.aclose()
    figure = observed.figure
    assert figure("turns_total", state="finished") == figure("turns_total") == 1
    assert figure("turns_in_flight") == figure("turn_errors_total") == 0
    assert 0 < figure("turn_seconds_sum") < 5
    assert figure("lmm_replies_total", model="scripted", outcome="ok") == 2
    assert figure("lmm_prompt_tokens_total", model="scripted") == 200
    assert figure("lmm_cached_tokens_total", model="scripted") == 160
    assert figure("lmm_completion_tokens_total", model="scripted") == 14
    assert figure("lmm_first_token_seconds_sum", model="scripted") == 0.5
    assert figure("skill_calls_total", skill="noop", outcome="ok") == 1
    assert figure("skill_calls_total", skill="refuse", outcome="SkillFailed") == 1
    assert figure("skill_calls_total") == 2
    assert figure("skill_call_seconds_count", skill="noop") == 1


async def test_a_turn_that_is_left_counts_as_stopped_and_stops_its_lmm() -> None:
    lmm = Stuck([])
    observed = Observed(lmm, LocalDispatcher([Noop()]))
    running = asyncio.create_task(observed.turn())
    while not observed.figure("turns_in_flight"):
        await asyncio.sleep(0.01)
    await observed.turn(stop_at=TextDelta)
    assert lmm.stopped
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert observed.figure("turns_in_flight") == 0
    assert observed.figure("turns_total", state="stopped") == 2
    assert observed.figure("lmm_replies_total", outcome="cancelled") == 2


async def test_errors_pass_through_and_are_counted_by_kind() -> None:
    lost = WorkerUnavailable("the server of the LMM is away")
    observed = Observed(ScriptedLMM([lost, use("hang")]), LocalDispatcher([Hang()]))
    finished = await observed.turn()
    assert finished is not None
    assert finished.error is lost
    observed.agent.turn_seconds = 0.1
    late = await observed.turn()
    assert late is not None
    assert late.error is not None
    RELEASE.set()
    await observed.dispatcher.aclose()
    RELEASE.clear()
    figure = observed.figure
    assert figure("turns_total", state="failed") == figure("turns_total") == 2
    for kind in ("WorkerUnavailable", "DeadlineExceeded"):
        assert figure("turn_errors_total", kind=kind) == 1
    assert figure("lmm_replies_total", outcome="WorkerUnavailable") == 1
    assert figure("skill_calls_total", skill="hang", outcome="DeadlineExceeded") == 1


async def test_names_that_were_made_up_share_one_series() -> None:
    metrics = Metrics()
    dispatcher = WatchedDispatcher(LocalDispatcher([Noop()]), metrics)
    await dispatcher.specs()
    for name in ("invented", "made_up"):
        result = await dispatcher.dispatch(
            use(name), CallScope(store=ImageStore(), deadline=time.monotonic() + 5)
        )
        assert result.error
        assert result.error.kind == UnknownSkill.__name__
    await dispatcher.aclose()
    assert figure(metrics, "skill_calls_total", skill="other", outcome="UnknownSkill") == 2
    assert "invented" not in repr(scraped(metrics))


async def test_a_busy_workers_refusals_are_counted() -> None:
    metrics = Metrics()
    with worker(Slow(), queue=0) as url:
        dispatcher = WatchedDispatcher(HttpDispatcher([url]), metrics)
        await dispatcher.specs()
        calls = [
            dispatcher.dispatch(
                use("slow", seconds=0.2),
                CallScope(store=ImageStore(), deadline=time.monotonic() + 5),
            )
            for _ in range(2)
        ]
        assert [result.error for result in await asyncio.gather(*calls)] == [None, None]
        await dispatcher.aclose()
    assert figure(metrics, "skill_refusals_total", skill="slow", kind="TooBusy") == 1
    assert figure(metrics, "skill_calls_total", skill="slow", outcome="ok") == 2


# --- HTTP


def counted_app() -> tuple[Metrics, FastAPI]:
    """An app with routes of every kind, and a stream that says one thing and then waits."""
    app, inner, router = FastAPI(), FastAPI(), APIRouter(prefix="/items")

    @router.get("/{number}/parts/{part}")
    @inner.get("/deep/{name:path}")
    def say(number: int = 0, part: str = "", name: str = "") -> str:
        return "there"

    @app.get("/stream")
    def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: first\n\n"
            await asyncio.sleep(60)

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a fault")

    app.include_router(router, prefix="/v1")
    app.mount("/inner", inner)
    metrics = Metrics()
    app.add_middleware(CountedRequests, metrics=metrics)
    return metrics, app


async def test_requests_are_counted_by_the_template_of_their_route() -> None:
    metrics, app = counted_app()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for path in ("/v1/items/1/parts/a", "/v1/items/22/parts/1", "/inner/deep/er/still"):
            assert (await client.get(path)).status_code == 200
        for path in ("/v1/items/x/parts/a", "/broken", "/wp-login.php", "/inner/nothing"):
            assert (await client.get(path)).status_code >= 400
        await client.request("INVENTED", "/broken")
    counted = {
        (labels["method"], labels["route"], labels["status"]): sample.value
        for sample in scraped(metrics)
        if sample.name == "llava_plus_http_requests_total" and (labels := sample.labels)
    }
    assert counted == {
        ("GET", "/v1/items/{number}/parts/{part}", "200"): 2,
        ("GET", "/v1/items/{number}/parts/{part}", "422"): 1,
        ("GET", "/inner/deep/{name}", "200"): 1,
        ("GET", "/broken", "500"): 1,
        ("GET", "other", "404"): 2,
        ("other", "/broken", "405"): 1,
    }


async def test_a_stream_is_passed_on_as_it_comes_and_counted_while_open() -> None:
    metrics, app = counted_app()
    with serving(app) as url:
        async with httpx.AsyncClient() as client, client.stream("GET", f"{url}/stream") as answer:
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"data: first\n\n"
            assert figure(metrics, "http_open_streams") == 1
        # The client has gone before the end of the stream.
        async with asyncio.timeout(5):
            while figure(metrics, "http_open_streams"):
                await asyncio.sleep(0.01)
    assert figure(metrics, "http_requests_total", route="/stream", status="200") == 1


# --- logs


async def test_log_lines_carry_their_turn_and_no_word_of_the_user(log: io.StringIO) -> None:
    observed = Observed(
        ScriptedLMM([use("noop", text="my secret"), "Your secret is safe."]),
        LocalDispatcher([Noop()]),
    )
    assert await observed.turn()
    await observed.dispatcher.aclose()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = {line["event"]: line for line in lines if "event" in line}
    assert told["skill_call"].items() >= {"skill": "noop", "outcome": "ok"}.items()
    assert told["turn"].items() >= {"state": "finished", "error": "", "level": "INFO"}.items()
    for line in told.values():
        assert (line["conversation"], line["turn"]) == ("conv_1", "turn_1")
        assert 0 < line["seconds"] < 5
    assert "secret" not in log.getvalue()


async def test_a_crash_is_an_outcome_without_its_words(log: io.StringIO) -> None:
    observed = Observed(ScriptedLMM([use("crash"), "It did not work."]), LocalDispatcher([Crash()]))
    await observed.turn()
    await observed.dispatcher.aclose()
    assert observed.figure("skill_calls_total", skill="crash", outcome="SkillFailed") == 1
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (crashed,) = [line for line in lines if "traceback" in line]
    assert "RuntimeError" in crashed["traceback"]


SECRETS = {
    "key lp_Zm9vYmFyYmF6cXV4": "key lp_***",
    "('lp_Zm9vYmFyYmF6cXV4',)\nnext": "('lp_***',)\nnext",
    "help_with_something stays": "help_with_something stays",
    "Authorization: Bearer abc.def-123": "Authorization: Bearer ***",
    "see data:image/png;base64,iVBORw0KGgo= there": "see data:image/png,*** there",
    '{"url": "data:image/jpeg;base64,/9j/4AAQ"}': '{"url": "data:image/jpeg,***"}',
    "postgresql+asyncpg://me:pass@db/x": "postgresql+asyncpg://me:***@db/x",
    "http://127.0.0.1:8601/v1 at 10:30 by a@b": "http://127.0.0.1:8601/v1 at 10:30 by a@b",
    "sk-proj-0123456789 refused": "sk-*** refused",
}


@pytest.mark.parametrize(("written", "shown"), SECRETS.items())
def test_secrets_do_not_reach_the_log(log: io.StringIO, written: str, shown: str) -> None:
    try:
        raise RuntimeError(written)
    except RuntimeError:
        logging.getLogger("anyone").exception("told: %s", written)
    line = json.loads(log.getvalue())
    assert line["message"] == f"told: {shown}"
    assert shown in line["traceback"]


def test_a_message_cannot_pass_for_a_line_of_its_own(log: io.StringIO) -> None:
    setup_logging(stream=log)
    with turn_span("conv_1", "turn_1"):
        logging.getLogger("anyone").warning("no such file: %s", "a\n2026 ERROR forged \x1b[2J")
    lines = log.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(r"no such file: a\n2026 ERROR forged \x1b[2J" + _turn_of(lines[0]))
    with pytest.raises(BadConfiguration, match="there is no log level 'loud'"):
        setup_logging(level="loud")


def _turn_of(line: str) -> str:
    found = re.search(r" conversation=conv_1 turn=turn_1( trace=[0-9a-f]{32})?$", line)
    assert found
    return found[0]


# --- the dashboard


async def test_the_dashboard_asks_only_for_what_is_there() -> None:
    with worker(Noop(), Slow(), queue=0) as url:
        observed = Observed(Costly([use("noop"), "Done."]), HttpDispatcher([url]))
        assert await observed.turn()
        await observed.dispatcher.aclose()
    observed.metrics.turn_ended("failed", 1.0, "BadReply")
    observed.metrics.call_refused("slow", "TooBusy")
    observed.metrics.request_ended("GET", "/v1/models", 200, 0.1)
    labels: dict[str, set[str]] = {}
    for sample in scraped(observed.metrics):
        labels.setdefault(sample.name, set()).update(sample.labels)

    dashboard = json.loads((DOCS / "grafana" / "llava-plus.json").read_text(encoding="utf-8"))
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            names = re.findall(r"\b(?:llava_plus|process)_\w+", query)
            assert names, query
            assert labels.keys() >= set(names), query
            known = set.union(*(labels[name] for name in names))
            groups = re.findall(r"by \(([\w, ]+)\)", query)
            assert known >= {name for group in groups for name in group.split(", ")}, query
            assert known >= set(re.findall(r"[{,]\s*(\w+)\s*[=!]", query)), query
            assert known >= set(re.findall(r"{{(\w+)}}", target["legendFormat"])), query
            asked.update(re.sub(r"_(bucket|count|sum)$", "", name) for name in names)
    offered = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in labels
        if name.startswith("llava_plus") and not name.endswith("_created")
    }
    assert asked >= offered
