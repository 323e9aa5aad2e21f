"""What browsers are told and asked: security headers, and whose requests may change anything.

All of it is plain ASGI middleware, which lets streams through as they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .errors import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_SECURITY_POLICY", "OriginGuard", "SecurityHeaders"]

_POLICY = {
    "default-src": "'self'",
    # Gradio writes its configuration and its styles into the page itself.
    "script-src": "'self' 'unsafe-inline'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
CONTENT_SECURITY_POLICY = "; ".join(f"{name} {value}" for name, value in _POLICY.items())

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_RAW_HEADERS = {name.lower().encode(): value.encode() for name, value in _HEADERS.items()}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class SecurityHeaders:
    """Adds the headers that keep a browser from being turned against whoever sits before it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                ours = (header for header in _RAW_HEADERS.items() if header[0] not in own)
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)


class OriginGuard:
    """Refuses what another site makes a browser send.

    A request that may change something must come from our own pages or from `origins`. With
    `names`, the Host header must be one of them or of this machine: a foreign name that leads
    here (DNS rebinding) would make another site's page our own in the browser's eyes.
    """

    def __init__(
        self, app: ASGIApp, *, origins: Iterable[str], names: Iterable[str] | None
    ) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._names = (
            None if names is None else frozenset(map(str.lower, (*_LOOPBACK_NAMES, *names)))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] in ("http", "websocket") else None
        if problem is None:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": problem})
            return
        response = error_response(
            403, problem, type="permission_error", code="foreign_origin", param=None
        )
        await response(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._names is not None and _name(host) not in self._names:
            return f"this server is not called {host!r}; server.names in the settings lists names"
        if scope.get("method") in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is None:
            # Programs send neither of the two headers.
            own = headers.get("sec-fetch-site", "none") in _OWN_SITE
        else:
            own = origin.lower() in self._origins or _is_own(origin, host)
        return None if own else f"a page of {origin or 'another site'} may change nothing here"


def _is_own(origin: str, host: str) -> bool:
    """Whether a page's origin is the host that it now asks; behind a proxy schemes differ."""
    try:
        split = urlsplit(origin)
        default = {"http": 80, "https": 443}.get(split.scheme)
        asked = urlsplit(f"{split.scheme}://{host}")
        return bool(split.hostname) and (
            (split.hostname, split.port or default) == (asked.hostname, asked.port or default)
        )
    except ValueError:
        return False


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
