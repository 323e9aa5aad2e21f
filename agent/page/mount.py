"""Putting the page into an app, and what a browser may do on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.routing import Mount

from ...skills.images import MAX_BYTES
from .style import CSS, theme

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["mount_page"]

_POLICY = {
    "default-src": "'self'",
    # Gradio writes its configuration into the page, and makes functions of its handlers' sources.
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    # The canvas reads pictures that it holds as data.
    "connect-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


def mount_page(app: FastAPI, blocks: gr.Blocks, path: str = "/") -> None:
    """Serve the page at `path` of `app`; routes that `app` has already come first.

    Nothing on it is asked for elsewhere: the theme's fonts come with gradio, a policy forbids
    browsers to load from other hosts, and no record of its use is kept.
    """
    gr.mount_gradio_app(
        app,
        blocks,
        path=path,
        theme=theme(),
        css=CSS,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        max_file_size=MAX_BYTES,
    )
    mounted = app.router.routes[-1]
    assert isinstance(mounted, Mount), "gradio mounts the page last"
    mounted.app = _Policed(mounted.app)


class _Policed:
    """Tells browsers what the page may load and run; headers that are set later keep to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._policy = "; ".join(f"{name} {value}" for name, value in _POLICY.items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def policed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
            await send(message)

        await self._app(scope, receive, policed if scope["type"] == "http" else send)
