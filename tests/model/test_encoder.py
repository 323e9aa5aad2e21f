"""Teaching the shortlist's encoder: requests come to lie by their skills."""

from __future__ import annotations

from pathlib import Path

from llava_plus.model.sentences import SentenceEncoder
from llava_plus.model.training.encoder import Lesson, train_encoder

from .test_sentences import encoder_folder

__all__ = ["encoder_folder"]

PAIRS = [
    ("is it wet outside", "rain: weather"),
    ("count my coins", "money: currency"),
    ("which bird sings", "tweet: animals"),
    ("translate bonjour", "tongue: language"),
]
IDLE = ["good morning", "my coins are old"]


def test_requests_move_to_their_skills(encoder_folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []

    def report(step: int, loss: float) -> None:
        losses.append(loss)

    name = str(encoder_folder)
    lesson = Lesson(PAIRS, IDLE)
    train_encoder(name, lambda step: lesson, tmp_path, steps=60, learning_rate=2e-3, report=report)
    assert losses[-1] < 0.5 * losses[0]
    small = SentenceEncoder(str(tmp_path / "small"))
    asked, skills = (small.encode(list(texts)) for texts in zip(*PAIRS, strict=True))
    assert (asked @ skills.T).argmax(dim=1).tolist() == [0, 1, 2, 3]
    wishes, idle = (asked @ skills.T).amax(dim=1), (small.encode(IDLE) @ skills.T).amax(dim=1)
    assert idle.max() < wishes.min()
