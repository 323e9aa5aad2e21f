"""Captions and answers about images by any image-text model: one question, one reply, no skills.

model = open_vision_language("llava-1.5/")
print(model.caption("photo.jpg"), model.vqa("photo.jpg", "How many people are there?"))
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..skills.errors import BadReply
from ..skills.images import ImageStore, encode_image, read_file
from .conversation import Conversation
from .lmm import LMM, Replied
from .opening import open_lmm
from .shipped import familiar_skills

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "CAPTION_PROMPT",
    "MAX_TOKENS",
    "SHORT_ANSWER",
    "VisionLanguageModel",
    "open_vision_language",
    "vqa_prompt",
]

CAPTION_PROMPT = "Describe the image in detail."
"""What mmpretrain asks LLaVA v1 and v1.5 for a caption (its `configs/llava`)."""
SHORT_ANSWER = "Answer the question using a single word or phrase."
"""Behind a question of VQA, as LLaVA-1.5 was trained (arXiv:2310.03744, response format)."""
MAX_TOKENS = 512
"""LLaVA's own bound for a reply."""

T = TypeVar("T")


def vqa_prompt(question: str, *, short: bool = False) -> str:
    """What a model is asked; `short` wants the word or phrase by which VQA is scored."""
    return f"{question}\n{SHORT_ANSWER}" if short else question


def open_vision_language(
    name: str | Path = "embedded", *, device: str = "cpu", max_tokens: int = MAX_TOKENS
) -> VisionLanguageModel:
    """Open `embedded`, a folder, a model of the hub, or `URL#MODEL` of an OpenAI-like server.

    Replies are greedy and have at most `max_tokens`. The embedded model knows plain rendered
    scenes only. Raises `BadConfiguration` when there is no such model.
    """
    trained_here = bool(familiar_skills(str(name)))
    lmm = open_lmm(
        str(name),
        device=device,
        local={"max_tokens": max_tokens, "calls": trained_here},
        remote={"max_tokens": max_tokens, "temperature": 0},
    )
    return VisionLanguageModel(lmm, names_images=trained_here)


class VisionLanguageModel:
    """An LMM for calls without asyncio, from any thread and from notebooks.

    With `names_images` it reads the handle of an image behind it, as models trained on this
    project's conversations did. Close it, or use it in `with`, to give back what it holds.
    """

    def __init__(self, lmm: LMM, *, names_images: bool = False) -> None:
        self._lmm = lmm
        self._conversation = Conversation() if names_images else _Unnamed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> VisionLanguageModel:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def caption(self, image: str | Path | bytes | Image, prompt: str = CAPTION_PROMPT) -> str:
        """What an image shows, in words. Raises as `ask` does."""
        return self.ask(image, prompt)

    def vqa(self, image: str | Path | bytes | Image, question: str, *, short: bool = False) -> str:
        """The answer to a question about an image. Raises as `ask` does."""
        return self.ask(image, vqa_prompt(question, short=short))

    def ask(self, image: str | Path | bytes | Image, prompt: str) -> str:
        """The reply to `prompt` alone, about an image: a path, the bytes of a file, or pixels.

        Raises `BadInput` when there is no such file, when it is no image, or when nothing is
        asked, `WorkerUnavailable` or `BadReply` when the model cannot answer.
        """
        return self._run(self._reply(image, prompt))

    def close(self) -> None:
        """Give back the model; it cannot be asked again."""
        if self._loop.is_closed():
            return
        self._run(self._give_back())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _reply(self, image: str | Path | bytes | Image, prompt: str) -> str:
        store = ImageStore()
        name = str(image) if isinstance(image, str | Path) else "image"
        conversation = self._conversation.ask(prompt, [store.add(_data(image), name=name)])
        async with aclosing(self._lmm.reply(conversation, store, calls_allowed=False)) as events:
            async for event in events:
                if isinstance(event, Replied):
                    return event.message.text.strip()
        raise BadReply(f"{self._lmm.name} stopped without a reply")

    async def _give_back(self) -> None:
        await self._lmm.aclose()
        await self._loop.shutdown_default_executor()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # an interrupt too stops the model
            future.cancel()
            raise


class _Unnamed(Conversation):
    """A conversation in which images stand without their handles, as most models were trained."""

    def chat_messages(self) -> list[dict[str, Any]]:
        messages = super().chat_messages()
        for said, message in zip(self.messages, messages, strict=True):
            if said.role == "user":
                shown = [part for part in message["content"] if part["type"] == "image"]
                message["content"] = [*shown, {"type": "text", "text": said.words}]
        return messages


def _data(image: str | Path | bytes | Image) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_file(Path(image))
    return encode_image(image)
