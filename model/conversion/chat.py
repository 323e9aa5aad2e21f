"""How each version of LLaVA is spoken to: the chat template and when a reply ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...skills.errors import BadConfiguration
from ..llava_plus.speech import DIALECT, PARTS

if TYPE_CHECKING:
    from transformers import GenerationConfig

__all__ = ["STYLES", "Style", "chat_template", "generation_settings", "style_of"]

_TEMPLATE = Path(__file__).parents[1] / "templates" / "llava.jinja"
_SYSTEM = (
    "A chat between a curious {0} and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the {0}'s questions."
)


@dataclass(frozen=True)
class Style:
    """What `templates/llava.jinja` says of each of these."""

    system: str
    opened: str
    user: str
    asked: str
    assistant: str
    answered: str
    ends: str = ""
    thoughts: str = ""
    calls: str = "\n<tool_call>"
    between: str = "</tool_call>\n<tool_call>"
    called: str = "</tool_call>"
    value: str = ""
    dialect: str = ""
    name: str = "name"
    arguments: str = "arguments"


_PLUS = {"dialect": DIALECT, **PARTS}
_V0 = {
    "system": _SYSTEM.format("human"),
    "opened": "\n\n###",
    "user": " Human: ",
    "asked": "\n###",
    "assistant": " Assistant:",
    "answered": "\n###",
    "ends": "###",
}
_V1 = {
    "system": _SYSTEM.format("user"),
    "opened": " ",
    "user": "USER: ",
    "asked": " ",
    "assistant": "ASSISTANT:",
    "answered": "</s>",
}
STYLES = {
    "v0": Style(**_V0),
    "v1": Style(**_V1),
    "plus-v0": Style(**_V0 | _PLUS),
    "plus-v1": Style(**_V1 | _PLUS),
}
"""As each was trained, which is not always as its own server spoke to it: `v0` is LLaVA 7B and 13B
of April 2023 (Vicuna 0), `v1` those on Vicuna 1.1 to 1.5, LLaVA-1.5 among them, and `plus-v0` and
`plus-v1` are LLaVA-Plus v0 and v1.3 (its training scripts)."""


def style_of(given: str | None, projector: str) -> Style:
    """The style that a person gave, else the one of all models with a type of projector.

    Raises `BadConfiguration` when it is unknown, or several versions have that projector.
    """
    name = given or ("v1" if projector == "mlp2x_gelu" else None)
    if name not in STYLES:
        raise BadConfiguration(
            f"there is no chat style {given!r}: it is one of {', '.join(STYLES)}"
            if given
            else f"LLaVAs of several versions have a projector of type {projector}: say with "
            f"--chat how this one was trained to chat ({', '.join(STYLES)})"
        )
    return STYLES[name]


def chat_template(style: Style, image: str) -> str:
    """The template of a style; `image` is what stands for an image."""
    settings = {**asdict(style), "image": image}
    lines = [
        f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n"
        for name, value in settings.items()
    ]
    return "".join(lines) + _TEMPLATE.read_text(encoding="utf-8")


def generation_settings(style: Style, tokenizer: Any, image_token: int) -> GenerationConfig:
    """LLaVA's own sampling, and the tokens that end a reply."""
    from transformers import GenerationConfig

    ends = [tokenizer.eos_token_id]
    if style.ends:
        # No token of its own ends a turn of v0: the one that its mark begins with is taken.
        before, after = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in ("a\n", f"a\n{style.ends}")
        )
        ends.append(after[len(before)])
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.2,
        top_p=0.7,
        max_new_tokens=512,
        suppress_tokens=[image_token],
    )
