"""The page, put together: which handler answers which event."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components.chatbot import ExampleMessage

from ..chats import Chats
from . import scripts
from .asking import Asking, Example
from .browsing import Browsing
from .desk import Desk
from .drawing_tools import DrawingTools
from .layout import Offer, Screen, lay_out
from .pictures import Pictures
from .samples import samples_for
from .talk import Talk

__all__ = ["build_page"]


def build_page(chats: Chats, *, owner: Callable[[gr.Request], str]) -> gr.Blocks:
    """The chat page over `chats`; `owner` tells from a request whose conversations it is about.

    What `owner` raises, where it is a `LlavaPlusError`, is shown to the person.
    """
    # Gradio would make a table of its last 10,000 events after each one, for a page that is off.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**12))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    pictures = Pictures(chats)
    samples = samples_for({spec.name for spec in chats.skills})
    examples = [Example(sample.text, sample.write(pictures.folder)) for sample in samples]
    blocks = gr.Blocks(
        title="LLaVA-Plus", fill_width=True, analytics_enabled=False, delete_cache=(1800, 14_400)
    )
    with blocks:
        screen = lay_out(
            Offer(
                lmms=list(chats.lmms),
                skills=[spec.name for spec in chats.skills],
                steps=chats.max_steps,
                seconds=chats.turn_seconds,
                samples=[
                    ExampleMessage(
                        text=example.text,
                        display_text=f"{sample.family}: {example.text}",
                        files=[str(example.picture)] if example.picture else [],
                    )
                    for sample, example in zip(samples, examples, strict=True)
                ],
            )
        )
        desk = Desk(chats, owner, pictures, Talk(chats, pictures), screen)
        turns = _wire_turns(Asking(desk, examples), screen)
        _wire_history(Browsing(desk), screen, blocks, turns)
        _wire_drawing(DrawingTools(desk), screen)
    return blocks


_PRIVATE: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None}
"""No program calls a handler, and nobody waits for another's turn."""


def _writes(*parts: Any) -> dict[str, Any]:
    """For a handler that writes these parts, which wait for it."""
    return {"outputs": list(parts), "show_progress": "hidden", **_PRIVATE}


def _everything(screen: Screen) -> dict[str, Any]:
    """For handlers that show a conversation."""
    return _writes(*vars(screen).values())


def _wire_turns(asking: Asking, screen: Screen) -> list[Any]:
    """The events that take turns are given back: leaving a conversation ends them."""
    view, notice = screen.view, screen.notice
    options = [screen.lmm, screen.skills, screen.steps, screen.seconds, screen.drawings]
    entered = [view, screen.entry, screen.canvas, screen.kind, screen.places, *options]
    shows = _everything(screen)
    turns = [
        screen.entry.submit(asking.ask, entered, **shows),
        screen.chatbot.example_select(asking.begin, options, **shows),
        screen.chatbot.retry(asking.again, [view, *options], **shows),
        screen.again.click(asking.again, [view, *options], **shows),
    ]
    screen.entry.stop(asking.stop, view, None, **_PRIVATE)
    entry = [screen.entry, screen.attached, screen.places]
    rewords = _writes(view, notice, *entry, screen.reword, screen.reword_not)
    screen.reword.click(asking.reword, view, **rewords)
    screen.reword_not.click(asking.keep_wording, view, **rewords)
    votes = _writes(view, notice, screen.comment)
    screen.chatbot.like(asking.vote, view, **votes)
    screen.comment.submit(asking.comment, [view, screen.comment], **votes)
    screen.comment_not.click(asking.keep_quiet, None, **_writes(screen.comment))
    return turns


def _wire_history(browsing: Browsing, screen: Screen, blocks: gr.Blocks, turns: list[Any]) -> None:
    shows = _everything(screen)
    leaves = {**shows, "cancels": turns}
    view, drawings = screen.view, screen.drawings
    blocks.load(browsing.load, [screen.address, drawings], js=scripts.READ_ADDRESS, **shows)
    screen.address.change(None, screen.address, js=scripts.WRITE_ADDRESS, **_PRIVATE)
    blocks.load(None, js=scripts.OPEN_WHERE_WIDE, **_PRIVATE)
    blocks.load(None, js=scripts.FOLLOW_THE_TALK, **_PRIVATE)
    blocks.load(None, js=scripts.TIDY_THE_KEYS, **_PRIVATE)
    blocks.load(None, js=scripts.SLIDE_WITH_ARROWS, **_PRIVATE)
    blocks.load(None, js=scripts.CLOSE_WITH_ESCAPE, **_PRIVATE)
    for chosen in (screen.new.click, screen.history.input, screen.branches.input):
        chosen(None, js=scripts.CLOSE_WHERE_NARROW, **_PRIVATE)
    screen.new.click(browsing.new, drawings, **leaves)
    screen.history.input(browsing.open, [screen.history, drawings], **leaves)
    screen.branches.input(browsing.branch, [view, screen.branches, drawings], **leaves)
    screen.delete_sure.click(browsing.delete, [view, drawings], **leaves)
    screen.clock.tick(browsing.look_again, [view, drawings], **shows)
    drawings.input(browsing.look_again, [view, drawings], **shows)
    lists = _writes(screen.history, screen.notice)
    searched = [view, screen.search]
    screen.search.change(browsing.search, searched, trigger_mode="always_last", **lists)
    screen.rename.click(browsing.rename, [view, screen.title], **lists)
    screen.title.submit(browsing.rename, [view, screen.title], **lists)
    screen.delete.click(browsing.ask_to_delete, view, **_writes(screen.delete_sure))
    files = _writes(screen.download_box, screen.record, screen.archive, screen.notice)
    screen.download_box.expand(browsing.download, view, **files)


def _wire_drawing(tools: DrawingTools, screen: Screen) -> None:
    view, entry = screen.view, screen.entry
    screen.entry.change(None, entry, screen.attached, js=scripts.NAMES_OF_FILES, **_PRIVATE)
    draws = _writes(screen.canvas, screen.notice)
    screen.attached.change(tools.newest, [view, entry], **draws)
    screen.begun.change(None, js=scripts.CLOSE_THE_CANVAS, **_PRIVATE)
    screen.camera.input(tools.take_photo, [entry, screen.camera], **_writes(entry, screen.camera))
