"""The gateway: one FastAPI app with the API, and the page over it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from ...skills.collecting import no_collections
from ..chats import Chats
from ..observing.http import CountedRequests
from ..observing.metrics import Metrics
from ..settings import Settings
from . import (
    access,
    branches,
    chat_completions,
    conversations,
    feedback,
    files,
    health,
    models,
    responses,
)
from .problems import HANDLERS
from .unserved import Unserved

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["create_app"]

_ABOUT = (
    "OpenAI's chat protocol over an LMM that calls vision skills on its way to an answer, "
    "and the conversations that are kept of it."
)
_ROUTERS = (
    chat_completions.router,
    responses.router,
    models.router,
    files.router,
    conversations.router,
    branches.router,
    feedback.router,
    health.router,
)


def create_app(
    chats: Chats, settings: Settings, *, page: bool = True, metrics: Metrics | None = None
) -> FastAPI:
    """The app that serves `chats`, whose running turns end with it; the store stays open.

    `metrics` are those that the LMMs and the dispatcher count into; without, only requests are.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A full garbage collection over all that is imported takes 0.1 s, and finds nothing.
        gc.freeze()
        # Small ones come a tenth as often as they would, full ones as often.
        often = gc.get_threshold()
        gc.set_threshold(10 * often[0], often[1], max(often[2] // 10, 1))
        yield
        await chats.aclose()
        gc.set_threshold(*often)
        gc.unfreeze()

    app = _Gateway(
        title="LLaVA-Plus",
        description=_ABOUT,
        version=version("llava-plus"),
        root_path=settings.server.root_path,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        # These pages load scripts from elsewhere; /openapi.json is there for tools of one's own.
        docs_url=None,
        redoc_url=None,
    )
    app.state.chats = chats
    app.state.settings = settings
    app.state.metrics = metrics or Metrics()
    for router in _ROUTERS:
        app.include_router(router)
    access.install(app, chats.store, settings)
    app.add_middleware(CountedRequests, metrics=app.state.metrics)  # outermost, to see refusals
    app.router.routes.append(Unserved("/v1/", [*app.router.routes]))
    if page:
        _add_page(app, chats)
    return app


def _add_page(app: FastAPI, chats: Chats) -> None:
    from ..page.stubs import without_stubs

    with without_stubs(), no_collections():
        from ..page.build import build_page
        from ..page.mount import mount_page

    mount_page(app, build_page(chats, owner=_page_owner))


def _page_owner(request: gr.Request) -> str:
    """Raises `Unauthorized` when the session has ended since the page was opened."""
    owner = access.page_owner(request.request) if request.request else None
    if owner is None:
        raise access.Unauthorized("sign in first: the session has ended")
    return owner


class _Gateway(FastAPI):
    """An app whose document tells the errors that there are, and none that there are not."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; FastAPI's 422 never comes, because it is answered as a 400."""
        if self.openapi_schema is None:
            document = super().openapi()
            for operations in document["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(name, None)
            self.openapi_schema = document
        assert self.openapi_schema is not None
        return self.openapi_schema
