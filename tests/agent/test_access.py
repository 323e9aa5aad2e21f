"""Who is let in, how much they may ask, and what another site's page cannot make a browser do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from llava_plus.agent.gateway import access as gateway
from llava_plus.agent.gateway.callers import Access
from llava_plus.agent.gateway.limits import Limits, Meter
from llava_plus.agent.gateway.problems import HANDLERS
from llava_plus.agent.settings import Settings, load_settings
from llava_plus.agent.store.store import ConversationStore, open_store
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

Person = Annotated[gateway.Caller, Depends(gateway.caller("chat"))]
Operator = Annotated[gateway.Caller, Depends(gateway.caller("admin"))]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ConversationStore]:
    database = f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite"
    async with open_store(database, str(tmp_path / "artifacts")) as opened:
        yield opened


def app_of(store: ConversationStore, settings: Settings) -> FastAPI:
    app = FastAPI(exception_handlers=HANDLERS)

    @app.get("/v1/me")
    async def me(caller: Person) -> str:
        return caller.owner

    @app.post("/v1/echo")
    async def echo(caller: Person, request: Request) -> Response:
        return Response(await request.body())

    @app.post("/v1/parsed")
    async def parsed(caller: Person, body: dict[str, Any]) -> int:
        return len(body)

    @app.get("/v1/keys")
    async def keys(caller: Operator) -> str:
        return caller.owner

    @app.get("/")
    async def page(request: Request) -> Response:
        return PlainTextResponse(gateway.page_owner(request) or "nobody")

    @app.post("/mcp")
    async def mcp() -> str:
        return "a tool"

    gateway.install(app, store, settings)
    return app


@dataclass
class Gateway:
    """An app, and a browser or program that asks it."""

    app: FastAPI
    client: httpx.AsyncClient
    access: Access = field(init=False)

    def __post_init__(self) -> None:
        self.access = self.app.state.access

    async def status(self, method: str, path: str, **options: Any) -> int:
        return (await self.client.request(method, path, **options)).status_code


JSON = {"Content-Type": "application/json"}
Open = Callable[..., Gateway]


@pytest.fixture
async def opened(store: ConversationStore) -> AsyncIterator[Open]:
    clients = []

    def open_(url: str = "http://127.0.0.1:8600", **overrides: Any) -> Gateway:
        given = {key.replace("__", "."): value for key, value in overrides.items()}
        app = app_of(store, load_settings(given))
        transport = httpx.ASGITransport(app)
        clients.append(httpx.AsyncClient(transport=transport, base_url=url))
        return Gateway(app, clients[-1])

    yield open_
    for client in clients:
        await client.aclose()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


# --- keys


async def test_on_this_machine_no_key_is_needed(opened: Open, store: ConversationStore) -> None:
    local = opened()
    assert (await local.client.get("/v1/me")).json() == "local"
    assert (await local.client.get("/v1/keys")).json() == "local"
    assert (await local.client.get("/")).text == "local"
    told = await local.client.get("/v1/me", headers=bearer("sk-whatever-clients-send"))
    assert told.json() == "local"
    key, secret = await store.keys.create("Ann", {"chat"}, {})
    assert (await local.client.get("/v1/me", headers=bearer(secret))).json() == key.id
    assert await local.status("GET", "/v1/me", headers=bearer("lp_wrong")) == 401


async def test_elsewhere_a_key_with_the_scope_is_needed(
    opened: Open, store: ConversationStore
) -> None:
    public = opened("https://chat.example", server__host="0.0.0.0")
    key, secret = await store.keys.create("Ann", {"chat"}, {})
    for headers in ({}, bearer("lp_wrong"), bearer(""), {"Authorization": f"Basic {secret}"}):
        refused = await public.client.get("/v1/me", headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
    assert (await public.client.get("/v1/me", headers=bearer(secret))).json() == key.id
    assert await public.status("GET", "/v1/keys", headers=bearer(secret)) == 403
    assert await public.status("POST", "/mcp", headers=bearer(secret)) == 403
    assert await public.status("POST", "/mcp") == 401
    _, secret = await store.keys.create("Tools", {"skills"}, {})
    assert await public.status("POST", "/mcp", headers=bearer(secret)) == 200
    assert await public.status("GET", "/v1/me", headers=bearer(secret)) == 403
    assert await public.status("GET", "/", headers=bearer(secret)) == 403


async def test_a_revoked_key_ends_within_seconds(store: ConversationStore) -> None:
    now = 0.0
    access = Access(store.keys, load_settings({"server.host": "0.0.0.0"}), clock=lambda: now)
    key, secret = await store.keys.create("Ann", {"chat"}, {})
    assert (await access.of_secret(secret)).owner == key.id
    assert await access.of_key(key.id)
    await store.keys.revoke(key.id)
    now = 5.0
    with pytest.raises(gateway.Unauthorized, match="revoked"):
        await access.of_secret(secret)
    assert await access.of_key(key.id) is None


async def test_a_key_is_looked_up_once_in_a_while(store: ConversationStore) -> None:
    """A turn of many requests asks the database once."""
    looked_up = 0
    verify = store.keys.verify

    class Counting:
        list = store.keys.list

        async def verify(self, secret: str) -> Any:
            nonlocal looked_up
            looked_up += 1
            return await verify(secret)

    access = Access(Counting(), load_settings())
    _, secret = await store.keys.create("Ann", {"chat"}, {})
    for _ in range(5):
        await access.of_secret(secret)
    assert looked_up == 1


# --- limits


async def test_a_key_has_its_own_rate(opened: Open, store: ConversationStore) -> None:
    public = opened(server__host="0.0.0.0", access__requests_per_minute=100)
    _, slow = await store.keys.create("Slow", {"chat"}, {"requests_per_minute": 2})
    _, other = await store.keys.create("Other", {"chat"}, {})
    statuses = [await public.status("GET", "/v1/me", headers=bearer(slow)) for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await public.client.get("/v1/me", headers=bearer(slow))
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert await public.status("GET", "/v1/me", headers=bearer(other)) == 200


def test_used_up_requests_come_back_evenly() -> None:
    now = 0.0
    meter = Meter(lambda: now)
    for _ in range(60):
        meter.take("ann", 60)
    with pytest.raises(gateway.TooManyRequests) as refused:
        meter.take("ann", 60)
    assert refused.value.retry_after == pytest.approx(1)
    now = 1.0
    meter.take("ann", 60)
    with pytest.raises(gateway.TooManyRequests):
        meter.take("ann", 60)


def test_turns_at_once_are_counted_by_owner() -> None:
    meter = Meter()
    refused = pytest.raises(gateway.TooManyRequests, match="2 turns run already")
    with meter.turn("ann", 2), meter.turn("ann", 2), meter.turn("bob", 1), refused:
        meter.turn("ann", 2).__enter__()
    with pytest.raises(ValueError, match="broke"), meter.turn("ann", 1):
        raise ValueError("broke")
    with meter.turn("ann", 1):
        pass


def test_a_key_cannot_lift_what_the_server_is_held_to() -> None:
    access = load_settings({"access.upload_bytes": 100, "access.pixels": 50}).access
    own = {"upload_bytes": 1000, "pixels": 10, "concurrent": 99, "unknown": 1}
    assert Limits.of(access, own) == Limits(600, 99, 100, 10)


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/parsed"])
async def test_a_body_is_read_up_to_its_limit(opened: Open, path: str) -> None:
    local = opened(access__upload_bytes=100)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b'"' + b"a" * 9

    for content in (b"a" * 101, chunks()):
        refused = await local.client.post(path, content=content)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "request_too_large"
    whole = '{"a": "%s"}' % ("a" * 90)
    assert await local.status("POST", path, content=whole, headers=JSON) == 200


async def test_a_key_may_be_held_to_smaller_bodies(opened: Open, store: ConversationStore) -> None:
    public = opened(server__host="0.0.0.0")
    _, secret = await store.keys.create("Ann", {"chat"}, {"upload_bytes": 10})
    assert await public.status("POST", "/v1/echo", content="a" * 11, headers=bearer(secret)) == 413
    assert await public.status("POST", "/v1/echo", content="a" * 10, headers=bearer(secret)) == 200


# --- browsers


async def sign_in(browser: Gateway, secret: str) -> httpx.Response:
    return await browser.client.post("/login", data={"key": secret})


async def test_a_browser_signs_in_with_a_key_and_out(
    opened: Open, store: ConversationStore
) -> None:
    browser = opened("https://chat.example", server__host="0.0.0.0")
    key, secret = await store.keys.create("Ann", {"chat"}, {})
    page = {"Accept": "text/html"}
    sent = await browser.client.get("/", headers=page)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login")
    assert await browser.status("GET", "/") == 401, "a program is told, not sent elsewhere"
    form = await browser.client.get("/login")
    assert "<script" not in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]
    done = await sign_in(browser, secret)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    cookie = done.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=strict", "Secure", "Path=/"):
        assert attribute in cookie
    assert secret not in cookie
    assert (await browser.client.get("/", headers=page)).text == key.id
    assert (await browser.client.get("/v1/me")).json() == key.id
    token = browser.client.cookies["llava_plus_session"]
    await browser.client.post("/logout")
    browser.client.cookies.set("llava_plus_session", token)
    assert await browser.status("GET", "/v1/me") == 401, "the session itself has ended"


async def test_a_session_ends_with_its_key(opened: Open, store: ConversationStore) -> None:
    browser = opened(access__require_key=True)
    key, secret = await store.keys.create("Ann", {"chat"}, {})
    assert "Secure" not in (await sign_in(browser, secret)).headers["set-cookie"]
    assert (await browser.client.get("/")).text == key.id
    await store.keys.revoke(key.id)
    browser.access._clock = lambda: float("inf")
    assert await browser.status("GET", "/") == 401


async def test_wrong_keys_are_refused_and_then_slowed_down(
    opened: Open, store: ConversationStore
) -> None:
    browser = opened(access__require_key=True)
    _, tools = await store.keys.create("Tools", {"skills"}, {})
    for secret in ("", "<b>lp_wrong</b>", tools):
        refused = await sign_in(browser, secret)
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
        assert secret == "" or secret not in refused.text
    statuses = [(await sign_in(browser, "lp_wrong")).status_code for _ in range(20)]
    assert statuses[-1] == 429
    assert await browser.status("POST", "/login", content=b"key=" + b"a" * 5000) in (413, 429)


async def test_below_a_root_path_all_addresses_have_it(
    opened: Open, store: ConversationStore
) -> None:
    browser = opened(access__require_key=True, server__root_path="/chat")
    transport = httpx.ASGITransport(browser.app, root_path="/chat")
    _, secret = await store.keys.create("Ann", {"chat"}, {})
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        sent = await client.get("/chat/", headers={"Accept": "text/html"})
        assert sent.headers["location"] == "/chat/login"
        assert 'action="/chat/login"' in (await client.get("/chat/login")).text
        done = await client.post("/chat/login", data={"key": secret})
        assert done.headers["location"] == "/chat/"
        assert "Path=/chat/" in done.headers["set-cookie"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:8600"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://app.example"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://127.0.0.1:8600.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_another_sites_page_changes_nothing(
    opened: Open, headers: dict[str, str], status: int
) -> None:
    local = opened(access__allow_origins=["https://app.example"])
    assert await local.status("POST", "/v1/echo", content="a", headers=headers) == status
    assert await local.status("GET", "/v1/me", headers=headers) == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8600", 200),
        ("[::1]:8600", 200),
        ("127.0.0.1", 200),
        ("Chat.example", 200),
        ("evil.example:8600", 403),
        ("127.0.0.1.evil.example", 403),
        ("169.254.1.1", 403),
        ("", 403),
    ],
)
async def test_a_foreign_name_for_this_machine_is_refused(
    opened: Open, host: str, status: int
) -> None:
    """DNS rebinding: evil.example now points to 127.0.0.1, and its page asks "itself"."""
    local = opened(server__names=["chat.example"], access__require_key=False)
    assert await local.status("GET", "/v1/me", headers={"Host": host}) == status


async def test_an_allowed_origin_may_read_answers_and_no_other(opened: Open) -> None:
    local = opened(access__allow_origins=["https://app.example"])
    for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
        told = await local.client.get("/v1/me", headers={"Origin": origin})
        assert ("access-control-allow-origin" in told.headers) is allowed
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    asked |= {"Access-Control-Request-Headers": "authorization,content-type"}
    assert await local.status("OPTIONS", "/v1/echo", headers=asked) == 200
    none = opened()
    told = await none.client.get("/v1/me", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in told.headers


async def test_every_answer_tells_browsers_to_be_careful(opened: Open) -> None:
    local = opened()
    for path in ("/", "/v1/me", "/nowhere"):
        headers = (await local.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]


async def test_streams_pass_piece_by_piece(store: ConversationStore) -> None:
    """Nothing between app and server waits for the end of an answer."""
    app = app_of(store, load_settings())
    seen: list[str] = []

    @app.get("/v1/stream")
    async def stream() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"a", b"b"):
                yield piece
                seen.append(f"made {piece.decode()}")

        return StreamingResponse(pieces())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message.get("body"):
            seen.append(f"sent {message['body'].decode()}")

    headers = [(b"host", b"127.0.0.1:8600")]
    scope = {"type": "http", "method": "GET", "path": "/v1/stream", "headers": headers}
    scope |= {"query_string": b"", "scheme": "http", "server": ("127.0.0.1", 8600), "root_path": ""}
    await app({**scope, "asgi": {"spec_version": "2.4"}, "client": ("127.0.0.1", 1)}, receive, send)
    assert seen == ["sent a", "made a", "sent b", "made b"]
