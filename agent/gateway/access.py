"""What stands before the routes of a gateway, and the names that they need of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlette.middleware.cors import CORSMiddleware

from .callers import LOCAL, Access, Caller, Forbidden, KeyStore, Unauthorized, caller
from .headers import OriginGuard, SecurityHeaders
from .limits import BodyLimit, Limits, TooManyRequests
from .login import Gate, Login, page_caller, page_owner

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..settings import Settings

__all__ = [
    "LOCAL",
    "Access",
    "Caller",
    "Forbidden",
    "Limits",
    "TooManyRequests",
    "Unauthorized",
    "caller",
    "install",
    "page_caller",
    "page_owner",
]

_ALLOWED_HEADERS = ("authorization", "content-type", "idempotency-key", "x-request-id")


class _HoldsKeys(Protocol):
    @property
    def keys(self) -> KeyStore: ...


def install(app: FastAPI, store: _HoldsKeys, settings: Settings) -> Access:
    """Put up keys, sessions, limits and headers before the routes of `app`; sets its state.access.

    Also adds /login and /logout, before whatever is mounted on the app.
    """
    access = app.state.access = Access(store.keys, settings)
    login = Login(access)
    app.router.routes[:0] = login.routes()
    # Each stands before those that were added earlier.
    app.add_middleware(Gate, login=login)
    app.add_middleware(BodyLimit, limit=settings.access.upload_bytes)
    if settings.access.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.access.allow_origins,
            allow_methods=("GET", "POST", "PATCH", "PUT", "DELETE"),
            allow_headers=_ALLOWED_HEADERS,
        )
    server = settings.server
    names = server.names if server.is_loopback else None
    app.add_middleware(OriginGuard, origins=settings.access.allow_origins, names=names)
    app.add_middleware(SecurityHeaders)
    return access
