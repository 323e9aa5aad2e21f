"""How well an LMM sees: plain questions about rendered scenes that training never showed."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable

from ..model.conversation import Conversation
from ..model.lmm import LMM
from ..skills.images import ImageRef, ImageStore
from .bank import Bank
from .catalogue import EMBEDDED, catalogue
from .scenes import Scene, render_scene
from .turns import one_reply

__all__ = ["Seen", "evaluate_looks"]

Seen = dict[str, tuple[int, int]]
"""For each kind of question: how many answers are right, of how many."""


async def evaluate_looks(
    lmm: LMM, count: int, seed: int = 0, progress: Callable[[], None] = lambda: None
) -> Seen:
    """Ask `count` questions about new scenes, with the four installed skills on offer.

    The answer is right when it is the true sentence, capitals and full stop aside.
    """
    rng = random.Random(f"{seed} evaluate looks")
    questions = Bank().looks
    specs = tuple(catalogue()[name] for name in EMBEDDED)
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for _ in range(count):
        scene = render_scene(rng)
        kind = rng.choice(sorted(scene.answers.keys() & questions.keys()))
        store = ImageStore()
        conversation = Conversation(skills=specs).ask(
            rng.choice(questions[kind]), [_stored(store, scene)]
        )
        asked[kind] += 1
        reply = await one_reply(lmm, conversation, store)
        right[kind] += _same(reply.text, scene.answers[kind])
        progress()
    return {kind: (right[kind], asked[kind]) for kind in sorted(asked)}


def _stored(store: ImageStore, scene: Scene) -> ImageRef:
    data = io.BytesIO()
    scene.image.save(data, "PNG")
    return store.add(data.getvalue())


def _same(said: str, true: str) -> bool:
    return said.strip().rstrip(".").casefold() == true.strip().rstrip(".").casefold()
