"""Stage 1: a vision tower from nothing learns to say in word vectors what it sees.

LLaVA's first stage teaches a projector behind a tower that sees already (Liu et al. 2023). Here
the tower has to learn to see as well, and the language model is left out of it: the word of a
question looks for its answer among the tokens of the image by attention, in the space of the
language model's word vectors. So the model meets tokens in stage 2 that speak its language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, normalize

from .examples import Look

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

__all__ = ["align_vision"]

_BATCH = 64
_LEARNING_RATE = 1e-3
_SHARPNESS = 10.0
"""Of the attention of a question over the image's tokens, in cosines."""
_CERTAINTY = 20.0
"""Of the choice among the answers, in cosines."""


def align_vision(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    looks: Sequence[Look],
    held_out: Sequence[Look],
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[int], None] = lambda step: None,
) -> dict[str, float]:
    """Teach tower and projector what `looks` show; the share of `held_out` told rightly."""
    lesson = _Lesson.of(model, processor, [*looks, *held_out])
    seen = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    optimizer = torch.optim.AdamW(seen, lr=_LEARNING_RATE, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        rate = min(1.0, (step + 1) / 100) * min(1.0, 2 * (steps - step) / steps)
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * rate
        chosen = torch.randint(0, len(looks), (_BATCH,), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        lesson.loss(model, chosen).backward()
        torch.nn.utils.clip_grad_norm_(seen, 1.0)
        optimizer.step()
        progress(step + 1)
    return lesson.accuracy(model, range(len(looks), len(looks) + len(held_out)))


@dataclass(frozen=True)
class _Lesson:
    """Pixels [images, 3, height, width] and which answer is true to each question, or -100."""

    pixels: torch.Tensor
    truth: torch.Tensor
    questions: list[str]
    question_vectors: torch.Tensor
    answer_vectors: torch.Tensor
    size: torch.Tensor
    """The mean length of the language model's word vectors."""

    @classmethod
    def of(
        cls, model: LlavaForConditionalGeneration, processor: LlavaProcessor, looks: Sequence[Look]
    ) -> _Lesson:
        questions = sorted({question for look in looks for question in look.answers})
        answers = sorted({answer for look in looks for answer in look.answers.values()})
        embeddings = model.get_input_embeddings()
        assert isinstance(embeddings, torch.nn.Embedding)
        vectors = embeddings.weight.detach().float()

        def vector(word: str) -> torch.Tensor:
            ids = processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
            return vectors[torch.tensor(ids)].mean(0)

        truth = [
            [answers.index(look.answers[q]) if q in look.answers else -100 for q in questions]
            for look in looks
        ]
        return cls(
            torch.cat(_pixels(processor, looks)),
            torch.tensor(truth),
            questions,
            normalize(torch.stack([vector(word) for word in questions]), dim=-1),
            normalize(torch.stack([vector(word) for word in answers]), dim=-1),
            vectors.norm(dim=-1).mean(),
        )

    def loss(self, model: LlavaForConditionalGeneration, chosen: torch.Tensor) -> torch.Tensor:
        """How far the answers are from the truth, and the tokens from the length of words."""
        tokens = _tokens(model, self.pixels[chosen])
        logits = self._read(tokens).flatten(0, 1)
        wrong = cross_entropy(logits, self.truth[chosen].flatten(), ignore_index=-100)
        too_long = (tokens.norm(dim=-1) / self.size - 1).square().mean()
        loss: torch.Tensor = wrong + 0.1 * too_long
        return loss

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [images, questions, answers] from image tokens [images, tokens, hidden]."""
        tokens = normalize(tokens, dim=-1)
        near = torch.einsum("ith,qh->iqt", tokens, self.question_vectors)
        found = torch.einsum("iqt,ith->iqh", (_SHARPNESS * near).softmax(dim=-1), tokens)
        logits: torch.Tensor = _CERTAINTY * normalize(found, dim=-1) @ self.answer_vectors.T
        return logits

    @torch.no_grad()
    def accuracy(
        self, model: LlavaForConditionalGeneration, indices: Sequence[int]
    ) -> dict[str, float]:
        """The share of right answers to each question."""
        model.eval()
        batches = torch.tensor(indices).split(_BATCH)
        told = torch.cat([self._read(_tokens(model, self.pixels[b])).argmax(-1) for b in batches])
        truth = self.truth[torch.tensor(indices)]
        right, asked = (told == truth).sum(0).tolist(), (truth >= 0).sum(0).tolist()
        return {
            question: good / count
            for question, good, count in zip(self.questions, right, asked, strict=True)
            if count
        }


def _pixels(processor: LlavaProcessor, looks: Sequence[Look]) -> list[torch.Tensor]:
    batches = [looks[start : start + _BATCH] for start in range(0, len(looks), _BATCH)]
    prepare = processor.image_processor
    return [
        torch.as_tensor(
            prepare([look.image for look in batch], return_tensors="pt")["pixel_values"]
        )
        for batch in batches
    ]


def _tokens(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """What the language model gets for images: [images, tokens, hidden]."""
    patches = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    tokens: torch.Tensor = model.model.multi_modal_projector(patches)
    return tokens
