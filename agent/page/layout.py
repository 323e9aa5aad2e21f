"""Where everything stands on the page; nothing here knows what happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components.chatbot import ExampleMessage

from .marking import Kind
from .view import View

__all__ = ["Offer", "Screen", "lay_out"]

_TITLE = "LLaVA-Plus"
_WELCOME = (
    "## What shall we look at?\n"
    "Add a picture and ask about it, or ask for a change. Skills are called where they help, "
    "and every call is shown."
)

_FILES = {"record": "Training record (JSON)", "archive": "Record and images (ZIP)"}
_KINDS = (
    ("Box around it", Kind.BOX.value),
    ("Point", Kind.POINT.value),
    ("Area", Kind.AREA.value),
)


@dataclass(frozen=True)
class Screen:
    """The parts of the page that handlers read or write."""

    view: gr.State
    address: gr.Textbox
    clock: gr.Timer
    new: gr.Button
    search: gr.Textbox
    history: gr.Radio
    branches: gr.Radio
    title: gr.Textbox
    rename: gr.Button
    delete: gr.Button
    delete_sure: gr.Button
    download_box: gr.Accordion
    record: gr.DownloadButton
    archive: gr.DownloadButton
    lmm: gr.Dropdown
    skills: gr.CheckboxGroup
    steps: gr.Slider
    seconds: gr.Slider
    drawings: gr.Checkbox
    chatbot: gr.Chatbot
    notice: gr.HTML
    again: gr.Button
    reword: gr.Button
    reword_not: gr.Button
    comment: gr.Textbox
    comment_not: gr.Button
    change_box: gr.Accordion
    change: gr.ImageSlider
    entry: gr.MultimodalTextbox
    attached: gr.Textbox
    begun: gr.Textbox
    kind: gr.Radio
    canvas: gr.ImageEditor
    places: gr.Textbox
    camera: gr.Image


@dataclass(frozen=True)
class Offer:
    """What there is to choose from, and what is chosen at first."""

    lmms: Sequence[str]
    skills: Sequence[str]
    steps: int
    seconds: float
    samples: list[ExampleMessage]


def lay_out(offer: Offer) -> Screen:
    """Build the page inside the `Blocks` that is open."""
    parts: dict[str, Any] = {
        "view": gr.State(View()),
        # What goes into the URL; the browser needs it as a component, nobody needs to see it.
        "address": gr.Textbox(visible="hidden", elem_id="address", show_label=False),
        "clock": gr.Timer(2, active=False),
    }
    with gr.Sidebar(label="Conversations and settings", width=300, open=False, elem_id="side"):
        parts |= _conversations() | _this_conversation() | _settings(offer)
    with gr.Column(elem_id="main"):
        gr.HTML(f"<h1>{_TITLE}</h1>", elem_id="head", padding=False)
        parts |= _messages(offer) | _tools() | _entry()
    return Screen(**parts)


def _conversations() -> dict[str, Any]:
    return {
        "new": gr.Button("New conversation", variant="primary", elem_id="new"),
        "search": gr.Textbox(
            label="Search", placeholder="Search conversations", show_label=False, elem_id="search"
        ),
        "history": gr.Radio([], label="Conversations", elem_id="history", elem_classes="picks"),
    }


def _this_conversation() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Accordion("Turns and branches", open=False, elem_id="branches-box"):
        parts["branches"] = gr.Radio(
            [],
            label="Go on from",
            info="Choose a turn; the next request follows it.",
            elem_id="branches",
            elem_classes="picks",
        )
    with gr.Accordion("Download", open=False, elem_id="download") as parts["download_box"]:
        for name, label in _FILES.items():
            parts[name] = gr.DownloadButton(label, size="sm", interactive=False, elem_id=name)
    with gr.Accordion("Rename or delete", open=False, elem_id="manage"):
        parts["title"] = gr.Textbox(label="Title", max_lines=1, elem_id="title")
        with gr.Row():
            parts["rename"] = gr.Button("Rename", size="sm")
            parts["delete"] = gr.Button("Delete", size="sm")
            parts["delete_sure"] = gr.Button(
                "Delete for good", size="sm", variant="stop", visible=False
            )
    return parts


def _settings(offer: Offer) -> dict[str, Any]:
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        return {
            "lmm": gr.Dropdown(list(offer.lmms), value=offer.lmms[0], label="Model"),
            "skills": gr.CheckboxGroup(
                list(offer.skills), value=list(offer.skills), label="Skills on offer"
            ),
            "steps": gr.Slider(
                1, max(12, offer.steps), value=offer.steps, step=1, label="Steps at most"
            ),
            "seconds": gr.Slider(
                5, max(600, offer.seconds), value=offer.seconds, step=5, label="Seconds at most"
            ),
            "drawings": gr.Checkbox(True, label="Draw findings on pictures", elem_id="drawings"),
        }


def _messages(offer: Offer) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "chatbot": gr.Chatbot(
            label="Conversation",
            show_label=False,
            container=False,
            height="100%",
            scale=1,
            buttons=["copy"],
            feedback_options=("Like", "Dislike", "Flag"),
            sanitize_html=True,
            allow_tags=False,
            latex_delimiters=[],
            placeholder=_WELCOME,
            examples=offer.samples,
            elem_id="chat",
        ),
        "notice": gr.HTML(visible=False, elem_id="notice", padding=False),
    }
    parts["comment"] = gr.Textbox(
        label="What was wrong?",
        placeholder="What was wrong? Optional; Enter sends it",
        show_label=False,
        visible=False,
        max_lines=1,
        elem_id="comment",
    )
    parts["comment_not"] = gr.Button(visible="hidden", elem_id="comment-not")
    return parts


def _tools() -> dict[str, Any]:
    """What stands in one row above the request; a tool that is opened takes the whole width."""
    parts: dict[str, Any] = {}
    with gr.Row(elem_id="tools"):
        parts["again"] = gr.Button("Try again", size="sm", visible=False, elem_id="again")
        parts["reword"] = gr.Button("Edit request", size="sm", visible=False, elem_id="reword")
        parts["reword_not"] = gr.Button(
            "Cancel editing", size="sm", visible=False, elem_id="reword-not"
        )
        with gr.Accordion("Mark a place", open=False, elem_id="mark-box"):
            parts |= _canvas()
        with gr.Accordion("Take a photo", open=False, elem_id="camera-box"):
            parts["camera"] = gr.Image(
                sources=["webcam"],
                type="filepath",
                label="Camera",
                show_label=False,
                height=320,
                elem_id="camera",
            )
        with gr.Accordion(
            "Before and after", open=False, visible=False, elem_id="change-box"
        ) as parts["change_box"]:
            parts["change"] = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                interactive=False,
                type="filepath",
                buttons=["fullscreen"],
                max_height=360,
                elem_id="change",
            )
    return parts


def _canvas() -> dict[str, Any]:
    return {
        "kind": gr.Radio(
            list(_KINDS),
            value=Kind.BOX.value,
            label="What you draw on the newest picture stands for",
            info="Several marks, apart from each other, are numbered from top to bottom. "
            "The eraser takes one away.",
            elem_id="kind",
        ),
        "canvas": gr.ImageEditor(
            type="pil",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(default_size=8, colors=["#e5484d"], color_mode="fixed"),
            buttons=[],
            label="Newest picture",
            show_label=False,
            placeholder="Add a picture first",
            format="jpeg",
            height=360,
            elem_id="canvas",
        ),
        "places": gr.Textbox(
            label="Or in numbers",
            info="As fractions of the picture: four are a box (left, top, right, bottom), two a "
            "point. A space parts several.",
            placeholder="0.1,0.2,0.5,0.6  0.3,0.5",
            max_lines=1,
            elem_id="places",
        ),
    }


def _entry() -> dict[str, Any]:
    return {
        "entry": gr.MultimodalTextbox(
            label="Request",
            show_label=False,
            placeholder="Ask about a picture, or add one",
            sources=["upload"],
            file_types=["image"],
            file_count="multiple",
            max_plain_text_length=20_000,
            autofocus=True,
            elem_id="entry",
        ),
        # What the browser is to take note of: the files of the request, the turn that has begun.
        "attached": gr.Textbox(visible="hidden", elem_id="attached", show_label=False),
        "begun": gr.Textbox(visible="hidden", elem_id="begun", show_label=False),
    }
