"""A lesson on the way: what whole sentences mean, learned from a sentence encoder.

Half-way up, the model's state at the end of every skill's description and of every request is
asked, through one linear map, for the direction of the encoder's vector of that text
(distillation; Reimers and Gurevych 2020). So a request comes to lie near the description of the
skill that it needs, also of one never seen. Encoder and map are needed only while training.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from ...skills.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

    from ..conversation import Conversation
    from ..rendering import ChatRenderer, Rendered

__all__ = ["SentenceEncoder", "SentenceLesson", "sentence_ends"]


class SentenceEncoder:
    """A BERT-like encoder, given as a folder or as an installed package that holds one.

    Raises `BadConfiguration` when it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(_folder(name))
            self._model = AutoModel.from_pretrained(_folder(name)).eval()
        except (OSError, ImportError) as error:
            raise BadConfiguration(
                f"the sentence encoder {name!r} cannot be loaded: {error}"
            ) from error
        self.width: int = self._model.config.hidden_size
        self._known: dict[str, torch.Tensor] = {}

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Mean-pooled vectors: (texts, width)."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(missing), 256):
            batch = missing[start : start + 256]
            self._known.update(zip(batch, self._run(batch), strict=True))
        return torch.stack([self._known[text] for text in texts])

    @torch.no_grad()
    def _run(self, texts: list[str]) -> torch.Tensor:
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden: torch.Tensor = self._model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"][..., None]
        return (hidden * mask).sum(1) / mask.sum(1)


class SentenceLesson(torch.nn.Module):
    """The linear map from a state half-way up to the encoder's space, and its loss."""

    def __init__(self, model: LlavaForConditionalGeneration, width: int) -> None:
        super().__init__()
        layers: Any = model.model.language_model.layers
        self.map = torch.nn.Linear(model.config.text_config.hidden_size, width)
        self._states: torch.Tensor | None = None
        layers[len(layers) // 2 - 1].register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._states = output[0] if isinstance(output, tuple) else output

    def forward(self, places: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Mean cosine distance at `places` (n) of the last forward pass to `vectors` (n, width)."""
        assert self._states is not None, "the model has not run"
        told = self.map(self._states[0, places].float())
        return 1 - functional.cosine_similarity(told, vectors, dim=-1).mean()


def sentence_ends(
    renderer: ChatRenderer, conversation: Conversation, rendered: Rendered
) -> list[tuple[int, str]]:
    """Every skill's description and every request, each with the token at which it is known.

    That is the token after a description, and the one after which the reply begins.
    """
    ids, encode = rendered.ids, renderer.tokenizer.encode
    ends, position = [], 0
    for spec in conversation.skills:
        text = renderer.control.neutralise(spec.description)
        own = encode(f" {text}", add_special_tokens=False)
        position = _find(ids, own, position)
        if position < 0:
            break
        position += len(own)
        ends.append((position, spec.description))
    replies = [index for index, learned in enumerate(rendered.learned) if learned]
    starts = [i for i in replies if not rendered.learned[i - 1]]
    before = [
        message.text if message.role == "user" else None
        for message, following in zip(
            conversation.messages, conversation.messages[1:], strict=False
        )
        if following.role == "assistant"
    ]
    ends += [
        (start - 1, text) for start, text in zip(starts, before, strict=True) if text is not None
    ]
    return ends


def _find(ids: list[int], wanted: list[int], start: int) -> int:
    for index in range(start, len(ids) - len(wanted) + 1):
        if ids[index] == wanted[0] and ids[index : index + len(wanted)] == wanted:
            return index
    return -1


def _folder(encoder: str) -> str:
    """The folder of an encoder that an installed package carries, or the name as it is."""
    package = find_spec(encoder.replace("-", "_")) if "/" not in encoder else None
    for place in package.submodule_search_locations or [] if package else []:
        for config in sorted(Path(place).rglob("config.json")):
            if any(config.parent.glob("*.safetensors")) or any(config.parent.glob("*.bin")):
                return str(config.parent)
    return encoder
