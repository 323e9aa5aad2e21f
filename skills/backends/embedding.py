"""Images and words in one space of vectors: CLIP (Radford 2021) and SigLIP (Zhai 2023)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from .pretrained import Pretrained

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["Embedder"]

_AT_ONCE = 32


@dataclass(config=ConfigDict(extra="forbid"))
class Embedder(Pretrained):
    """Gives unit vectors, so that their products are cosines."""

    kinds: ClassVar[tuple[str, ...]] = ("clip", "siglip")

    @property
    def scores_each(self) -> bool:
        """Whether the model scores every pair of image and words for itself (a sigmoid).

        Otherwise it only says which words fit best of several (a softmax).
        """
        return hasattr(self._model, "logit_bias")

    def odds(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's log-odds for cosines of images and words."""
        scale = float(self._model.logit_scale.detach().exp())
        bias = float(self._model.logit_bias.detach()) if self.scores_each else 0.0
        return cosines * scale + bias

    @property
    def fingerprint(self) -> str:
        """A hash of what the model makes of words: of its first word vectors, and its settings."""
        words = self._model.text_model.get_input_embeddings().weight[:256].detach().float().cpu()
        settings = self._model.config.to_json_string(use_diff=False)
        return hashlib.sha256(settings.encode() + words.numpy().tobytes()).hexdigest()

    def images(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Vectors of images, (images, width)."""

        def embed(part: Sequence[Image]) -> torch.Tensor:
            inputs = self._processor(images=list(part), return_tensors="pt")
            pixels = inputs["pixel_values"].to(self._model.device, self._model.dtype)
            return self._pooled(self._model.get_image_features(pixel_values=pixels))

        return self._in_parts(images, embed)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, (texts, width); what is too long for the model is cut."""
        longest = self._model.config.text_config.max_position_embeddings

        def embed(part: Sequence[str]) -> torch.Tensor:
            # SigLIP was trained on texts that are filled up to the longest, and reads the filling.
            inputs = self._processor.tokenizer(
                list(part),
                padding="max_length" if self.scores_each else True,
                max_length=longest,
                truncation=True,
                return_tensors="pt",
            ).to(self._model.device)
            if self.scores_each:
                inputs.pop("attention_mask", None)
            return self._pooled(self._model.get_text_features(**inputs))

        return self._in_parts(texts, embed)

    @staticmethod
    def _pooled(features: Any) -> torch.Tensor:
        pooled: torch.Tensor = features.pooler_output
        return pooled

    @staticmethod
    def _in_parts(
        items: Sequence[Any], embed: Callable[[Sequence[Any]], torch.Tensor]
    ) -> NDArray[np.float32]:
        import torch
        from torch.nn.functional import normalize

        def parts() -> Iterator[torch.Tensor]:
            for start in range(0, len(items), _AT_ONCE):
                part = items[start : start + _AT_ONCE]
                yield normalize(embed(part).float(), dim=-1).cpu()

        with torch.inference_mode():
            vectors: NDArray[np.float32] = torch.cat(list(parts())).numpy()
        return vectors
