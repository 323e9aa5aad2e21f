"""How a browser shows a key: a form without script, and a session that stands for the key.

Sessions are in the memory of one process, under the hash of their token: who restarts the
gateway logs everybody out, and several gateways need a proxy that keeps a browser to one of them.
"""

from __future__ import annotations

import hashlib
import html
import math
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypedDict
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ...skills.worker import read_body
from .callers import SESSION_CALLER, Access, Caller, Forbidden, Unauthorized
from .errors import error_response
from .limits import Meter, TooManyRequests

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["COOKIE", "Gate", "Login", "page_caller", "page_owner"]

COOKIE = "llava_plus_session"
_SESSION_SECONDS = 12 * 3600
_MAX_FORM = 4096
_MAX_SESSIONS = 10_000
_TRIES_PER_MINUTE = 20
_OPEN = frozenset({"/login", "/logout", "/healthz", "/readyz", "/metrics", "/openapi.json"})
"""What asks nobody who they are, or asks by itself, as all below /v1/ does."""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)

_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>LLaVA-Plus: sign in</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto; padding: 1rem; }}
input, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; }}
button {{ margin-top: 1rem; }}
</style>
</head>
<body>
<h1>Sign in</h1>
<form method="post" action="{action}">
<label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button>
</form>
<p role="alert">{problem}</p>
<p>The operator makes a key with <code>llava-plus keys create</code>.</p>
</body>
</html>
"""


class _CookieOptions(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["strict"]


class Login:
    """The sessions of browsers, and the three routes that begin and end them."""

    def __init__(self, access: Access, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.access = access
        self._clock = clock
        self._tries = Meter(clock)
        self._sessions: dict[bytes, tuple[str, float]] = {}

    def routes(self) -> list[BaseRoute]:
        """GET and POST /login, POST /logout."""
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.begin, methods=["POST"]),
            Route("/logout", self.end, methods=["POST"]),
        ]

    async def caller(self, connection: HTTPConnection) -> Caller | None:
        """Who sits before the browser; None when nobody has signed in."""
        if not self.access.key_needed:
            return self.access.local
        token = connection.cookies.get(COOKIE)
        if not token:
            return None
        id_, until = self._sessions.get(_digest(token), ("", 0.0))
        if until <= self._clock():
            self._sessions.pop(_digest(token), None)
            return None
        return await self.access.of_key(id_)

    async def show(self, request: Request) -> Response:
        """The form."""
        return _form(request, "", 200)

    async def begin(self, request: Request) -> Response:
        """A session for whoever shows a key for chats."""
        try:
            self._tries.take(request.client.host if request.client else "", _TRIES_PER_MINUTE)
            fields = parse_qs((await read_body(request, _MAX_FORM)).decode(errors="replace"))
            caller = await self.access.of_secret(fields.get("key", [""])[0].strip())
            caller.require("chat")
        except TooManyRequests as error:
            response = _form(request, "Too many tries: wait a minute.", 429)
            response.headers["Retry-After"] = str(math.ceil(error.retry_after))
            return response
        except (Unauthorized, Forbidden) as error:
            return _form(request, f"It did not work: {error}.", 401)
        token = secrets.token_urlsafe(32)
        self._make_room()
        self._sessions[_digest(token)] = (caller.owner, self._clock() + _SESSION_SECONDS)
        response = RedirectResponse(_root(request), 303)
        response.set_cookie(COOKIE, token, max_age=_SESSION_SECONDS, **_cookie(request))
        return response

    async def end(self, request: Request) -> Response:
        """Forget the session."""
        self._sessions.pop(_digest(request.cookies.get(COOKIE, "")), None)
        response = RedirectResponse(f"{_root(request)}login", 303)
        response.delete_cookie(COOKIE, **_cookie(request))
        return response

    def _make_room(self) -> None:
        now = self._clock()
        alive = {key: value for key, value in self._sessions.items() if value[1] > now}
        while len(alive) >= _MAX_SESSIONS:
            del alive[next(iter(alive))]
        self._sessions = alive


class Gate:
    """ASGI middleware that finds out whose browser asks, and lets no stranger to page or MCP.

    The API's own routes ask for a `caller` themselves. A stranger who opens a page is sent to
    the form.
    """

    def __init__(self, app: ASGIApp, login: Login) -> None:
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] in ("http", "websocket"):
            connection = HTTPConnection(scope)
            scope[SESSION_CALLER] = await self._login.caller(connection)
            if refusal := await self._refusal(connection):
                app = refusal
        await app(scope, receive, send)

    async def _refusal(self, connection: HTTPConnection) -> Response | None:
        path = connection.scope["path"].removeprefix(connection.scope.get("root_path", ""))
        if path in _OPEN or path.startswith("/v1/"):
            return None
        access, is_mcp = self._login.access, _is_below(path, "/mcp")
        try:
            caller = await access.of_request(connection)
            caller.require("skills" if is_mcp else "chat")
            if is_mcp:
                access.count(caller)
        except Unauthorized as error:
            if _is_navigation(connection) and not is_mcp:
                return RedirectResponse(f"{_root(connection)}login", 303)
            return _refused(401, error, "authentication_error", {"WWW-Authenticate": "Bearer"})
        except Forbidden as error:
            return _refused(403, error, "permission_error", {})
        except TooManyRequests as error:
            wait = {"Retry-After": str(math.ceil(error.retry_after))}
            return _refused(429, error, "rate_limit_error", wait)
        connection.scope[SESSION_CALLER] = caller
        return None


def page_caller(request: HTTPConnection) -> Caller | None:
    """Who sits before the browser, with the scope "chat"; None when nobody has signed in."""
    found = request.scope.get(SESSION_CALLER)
    return found if isinstance(found, Caller) and "chat" in found.scopes else None


def page_owner(request: HTTPConnection) -> str | None:
    """The owner of what is made in the page; None when nobody has signed in."""
    found = page_caller(request)
    return found.owner if found else None


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _is_navigation(connection: HTTPConnection) -> bool:
    """Whether a person opens a page, rather than a program something of it."""
    return connection.scope.get("method") == "GET" and "text/html" in connection.headers.get(
        "accept", ""
    )


def _refused(status: int, error: Exception, type_: str, headers: dict[str, str]) -> Response:
    return error_response(status, str(error), type=type_, headers=headers)


def _form(request: Request, problem: str, status: int) -> Response:
    text = _FORM.format(action=f"{_root(request)}login", problem=html.escape(problem))
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(text, status, headers)


def _root(connection: HTTPConnection) -> str:
    return f"{connection.scope.get('root_path', '')}/"


def _cookie(request: Request) -> _CookieOptions:
    return {
        "path": _root(request),
        "secure": request.url.scheme == "https",
        "httponly": True,
        "samesite": "strict",
    }


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
