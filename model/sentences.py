"""Vectors of sentences, from a BERT-like encoder; what is near in meaning is near in direction."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..skills.errors import BadConfiguration
from .carried import files_carried_by
from .small_weights import FILE, open_small, save_small

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SentenceEncoder", "save_small_encoder"]

_WORDS = re.compile("word_embeddings")
_KEPT = 20_000
_TOGETHER = 128


class SentenceEncoder:
    """An encoder from a folder (in full or in few bits), or that an installed package carries.

    `attention` is one of the implementations of transformers. Raises `BadConfiguration` when the
    encoder cannot be loaded.
    """

    def __init__(self, name: str, *, attention: str = "sdpa") -> None:
        from transformers import AutoTokenizer

        folder = _folder(name)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = _load(folder)
            self._model.set_attn_implementation(attention)
        except (OSError, ImportError) as error:
            raise BadConfiguration(
                f"the sentence encoder {name!r} cannot be loaded: {error}"
            ) from error
        self._known: dict[str, torch.Tensor] = {}
        self._lock = threading.Lock()

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Mean-pooled vectors of length one: (texts, width). Those of earlier calls are kept."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            if len(self._known) + len(missing) > _KEPT:
                self._known.clear()
                missing = list(dict.fromkeys(texts))
            for start in range(0, len(missing), 256):
                batch = missing[start : start + 256]
                self._known.update(zip(batch, self._run(batch), strict=True))
            return torch.stack([self._known[text] for text in texts])

    @torch.inference_mode()
    def _run(self, texts: list[str]) -> torch.Tensor:
        return self.embed(texts)

    def embed(self, texts: list[str]) -> torch.Tensor:
        """Vectors as `encode` gives them, through which gradients flow."""
        inputs = self._inputs(texts)
        hidden: torch.Tensor = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def _inputs(self, texts: list[str]) -> Any:
        return self._tokenizer(
            texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
        )

    @torch.no_grad()
    def states(self, texts: Sequence[str], layers: Sequence[int]) -> list[torch.Tensor]:
        """What `layers` say of every token, side by side in bfloat16: (tokens, widths) a text."""
        found: dict[int, torch.Tensor] = {}
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), _TOGETHER):
            batch = order[start : start + _TOGETHER]
            inputs = self._inputs([texts[index] for index in batch])
            said = self._model(**inputs, output_hidden_states=True).hidden_states
            wide = torch.cat([said[layer] for layer in layers], dim=-1).bfloat16()
            lengths = inputs["attention_mask"].sum(1).tolist()
            for index, words, length in zip(batch, wide, lengths, strict=True):
                found[index] = words[:length].clone()
        return [found[index] for index in range(len(texts))]

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The encoder's weights."""
        return self._model.parameters()

    def save(self, folder: Path) -> None:
        """Write encoder and tokenizer in full, as transformers does."""
        self._model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def save_small_encoder(name: str, folder: Path) -> None:
    """Save an encoder in few bits: the vectors of words in four, its other matrices in eight."""
    from transformers import AutoModel, AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(_folder(name)).save_pretrained(folder)
    save_small(AutoModel.from_pretrained(_folder(name)), folder, _WORDS)


def _load(folder: str) -> PreTrainedModel:
    from transformers import AutoModel

    if (Path(folder) / FILE).is_file():
        return open_small(AutoModel, Path(folder))
    model: PreTrainedModel = AutoModel.from_pretrained(folder)
    return model


def _folder(encoder: str) -> str:
    """The folder of an encoder that an installed package carries, or the name as it is."""
    for config in files_carried_by(encoder, "config.json"):
        if any(config.parent.glob("*.safetensors")) or any(config.parent.glob("*.bin")):
            return str(config.parent)
    return encoder
