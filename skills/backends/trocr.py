"""Reading handwriting with TrOCR (Li et al. 2021), through transformers.

It reads one line at a time; RapidOCR finds the lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..progress import reporting_each
from . import Licence, Packages, TextLine
from .pretrained import Pretrained
from .rapidocr import LineFinder

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["TrOCRReader"]

_AT_ONCE = 8


@dataclass(config=ConfigDict(extra="forbid"))
class TrOCRReader(Pretrained):
    """A `TextReader`; `longest` is in tokens a line.

    `min_score`, of the mean probability of a line's tokens, is below which it counts as misread
    and is left out.
    """

    model: str = "microsoft/trocr-base-handwritten"
    longest: int = Field(default=64, ge=1, le=512)
    min_score: float = Field(default=0.3, ge=0, le=1)
    threads: int = Field(default=2, ge=1)
    _finder: LineFinder = field(default_factory=LineFinder, init=False, repr=False)

    kinds: ClassVar[tuple[str, ...]] = ("vision-encoder-decoder",)
    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")
    packages: ClassVar[Packages] = Packages(
        "trocr", ("torch", "transformers", "rapidocr", "onnxruntime")
    )

    def load(self, device: str) -> None:
        """Load both models; lines are found on the CPU. Raises `BadConfiguration`."""
        super().load(device)
        self._finder = LineFinder(self.threads)
        self._finder.load()

    def read(self, image: Image) -> list[TextLine]:
        """Every line of text; boxes are fractions of `image`."""
        found = self._finder.find(image)
        read = self._read([line for _, line in found])
        return [
            TextLine(text=text, box=box, score=round(score, 3))
            for (box, _), (text, score) in zip(found, read, strict=True)
            if text and score >= self.min_score
        ]

    def _read(self, lines: Sequence[Image]) -> Iterator[tuple[str, float]]:
        """What each line says, and the mean (geometric) of its tokens' probabilities."""
        import torch

        starts = range(0, len(lines), _AT_ONCE)
        for start in reporting_each(starts, "groups of lines"):
            part = list(lines[start : start + _AT_ONCE])
            pixels = self._processor(images=part, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                made = self._model.generate(
                    pixels.to(self._model.device, self._model.dtype),
                    max_new_tokens=self.longest,
                    num_beams=1,
                    do_sample=False,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
            texts = self._processor.batch_decode(made.sequences, skip_special_tokens=True)
            scores = self._scores(made.sequences, made.scores)
            yield from zip((" ".join(text.split()) for text in texts), scores, strict=True)

    def _scores(self, sequences: torch.Tensor, steps: Sequence[torch.Tensor]) -> list[float]:
        import torch

        tokens = sequences[:, -len(steps) :]
        odds = torch.stack(list(steps), dim=1).float().log_softmax(dim=-1)
        chosen = odds.gather(-1, tokens[..., None])[..., 0]
        # A line that ends before the others is filled up.
        written = tokens != self._model.generation_config.pad_token_id
        means = (chosen * written).sum(dim=1) / written.sum(dim=1).clamp(min=1)
        scores: list[float] = means.exp().tolist()
        return scores
