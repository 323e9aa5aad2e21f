"""Frames as updates of the page's parts."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from .layout import Screen
from .view import Around, Frame

__all__ = ["Updates", "cleared", "show", "told"]

Updates = dict[Any, Any]
"""Parts of the page, each with its new value or what changes of it."""


def show(screen: Screen, frame: Frame, *, watched: bool = True) -> Updates:
    """Show a frame; a turn that runs and is not `watched` here is looked at again and again."""
    updates: Updates = {
        screen.view: frame.view,
        screen.chatbot: gr.update(value=frame.rows, feedback_value=list(frame.votes)),
        screen.notice: _notice(""),
    }
    if frame.around:
        running = frame.view.running is not None
        updates |= _around(screen, frame, frame.around)
        updates[screen.clock] = gr.update(active=running and not watched)
    return updates


def told(screen: Screen, text: str) -> Updates:
    """Tell the person something above the request."""
    return {screen.notice: _notice(text)}


def cleared(screen: Screen) -> Updates:
    """An empty request, without pictures or drawing."""
    emptied = gr.update(value={"text": "", "files": []})
    return {screen.entry: emptied, screen.attached: "", screen.places: ""}


def _around(screen: Screen, frame: Frame, around: Around) -> Updates:
    view = frame.view
    running, there = view.running is not None, view.turn is not None
    updates: Updates = {
        screen.address: view.conversation or "",
        screen.branches: gr.update(choices=list(around.branches), value=view.turn),
        screen.title: around.title,
        screen.delete_sure: gr.update(visible=False),
        screen.download_box: gr.update(open=False),
        screen.record: gr.update(value=None, interactive=False),
        screen.archive: gr.update(value=None, interactive=False),
        screen.entry: gr.update(submit_btn=not running, stop_btn=running),
        screen.again: gr.update(visible=around.failed),
        screen.reword: gr.update(visible=there and not running),
        screen.reword_not: gr.update(visible=False),
        screen.comment: gr.update(visible=False, value=""),
        screen.change_box: gr.update(visible=around.change is not None),
    }
    if around.history is not None:
        listed = gr.update(choices=list(around.history), value=view.conversation)
        updates |= {screen.search: "", screen.history: listed}
    if not running:
        updates[screen.canvas] = canvas(str(around.newest) if around.newest else None)
        updates[screen.change] = tuple(map(str, around.change)) if around.change else None
    return updates


def canvas(picture: Any) -> dict[str, Any] | None:
    """A picture to draw on, with nothing drawn yet."""
    return {"background": picture, "layers": [], "composite": None} if picture else None


def _notice(text: str) -> Any:
    said = f'<div class="told" role="alert">{html.escape(text)}</div>' if text else ""
    return gr.update(value=said, visible=bool(text))
