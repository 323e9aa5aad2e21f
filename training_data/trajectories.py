"""Composing trajectories: a random catalogue, hand-written requests, calls, results and answers.

The trajectories of one group share their catalogue, so that training computes it only once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..model.conversation import Conversation
from ..skills.calls import SkillSpec
from ..skills.images import ImageRef
from .bank import Bank, InventedSkill, Plan, Request, Step
from .offers import Offer, draw_offer
from .outcomes import answer_to
from .plans import goes_on, only_serves
from .scenes import Scene
from .thread import Impossible, Thread
from .widening import one_after_another, several_things

__all__ = ["Composer", "Portions"]

_CONFUSABLE = (
    {"detect", "segment", "describe_regions", "tag", "caption"},
    {"adjust", "edit", "inpaint", "generate"},
    {"ocr"},
    {"retrieve"},
)
_CHAINED = frozenset("ocr detect segment adjust caption tag retrieve generate edit".split())
_MARKS = frozenset(("$box", "$point", "$sketch"))
# Nearly half of all plans find a thing and then adjust it. Alone `adjust` must not be rarer than
# that, or "Brighten the photo" comes to mean that a photo is to be found first.
_OFTENER = {"adjust": 4.0}


@dataclass(frozen=True)
class Portions:
    """How often each kind of request is composed, as weights."""

    known: float = 0.36
    invented: float = 0.55
    plan: float = 0.40
    marked: float = 0.10
    chain: float = 0.12
    none: float = 0.24
    missing: float = 0.06
    looks: float = 0.10
    repeat: float = 0.06


class Composer:
    """Composes trajectories from a bank; the same `rng` gives the same ones."""

    def __init__(
        self,
        bank: Bank,
        scenes: Mapping[str, Scene],
        refs: Sequence[ImageRef],
        portions: Portions | None = None,
    ) -> None:
        self.bank = bank
        self.portions = portions or Portions()
        self._scenes = scenes
        self._refs = refs

    def group(self, rng: random.Random, size: int) -> list[Conversation]:
        """`size` conversations about one catalogue."""
        offer = draw_offer(self.bank, rng)
        skills = tuple(rng.sample(list(offer.shown.values()), len(offer.shown)))
        return [self.conversation(rng, offer, skills) for _ in range(size)]

    def conversation(
        self, rng: random.Random, offer: Offer, skills: tuple[SkillSpec, ...]
    ) -> Conversation:
        """One conversation: mostly one turn, sometimes more."""
        turns = rng.choices((1, 2, 3), (0.8, 0.15, 0.05))[0]
        composed = _Turns(self, rng, offer, skills)
        while turns:
            try:
                composed.turn()
            except Impossible:
                continue
            turns -= 1
        return composed.thread.conversation

    @cached_property
    def remarks(self) -> list[str]:
        """Remarks that ask for nothing, to stand before a request."""
        openings = ("I ", "I'", "My ", "We ", "This ", "It ", "The ", "That ", "There ", "Our ")
        requests = (text for text, _ in self.bank.none)
        return [
            text
            for text in requests
            if text.endswith(".") and text.startswith(openings) and "{" not in text
        ]

    def image(self, rng: random.Random) -> ImageRef:
        """Any image of the pool."""
        return rng.choice(self._refs)

    def scene(self, ref: ImageRef) -> Scene:
        """What is known of an image of the pool."""
        return self._scenes[ref.sha256]


class _Turns:
    """The kinds of request, each with all that follows from it, in one conversation."""

    def __init__(
        self, composer: Composer, rng: random.Random, offer: Offer, skills: tuple[SkillSpec, ...]
    ) -> None:
        self.composer = composer
        self.bank = composer.bank
        self.rng = rng
        self.offer = offer
        self.thread = Thread(
            bank=composer.bank,
            rng=rng,
            offer=offer,
            remarks=composer.remarks,
            image=lambda: composer.image(rng),
            conversation=Conversation(skills=skills),
        )

    def turn(self) -> None:
        """Add one request and all that follows from it. Raises `Impossible` to try again."""
        portions = self.composer.portions
        kinds: dict[str, tuple[float, Callable[[], None]]] = {
            "known": (portions.known, self._known),
            "invented": (portions.invented, self._invented),
            "plan": (portions.plan, self._plan),
            "marked": (portions.marked, self._marked),
            "chain": (portions.chain, self._chain),
            "none": (portions.none, self._none),
            "missing": (portions.missing, self._missing),
            "looks": (portions.looks, self._looks),
            "repeat": (portions.repeat, self._repeat),
        }
        weights = [weight for weight, _ in kinds.values()]
        act = self.rng.choices([act for _, act in kinds.values()], weights)[0]
        before = self.thread.conversation
        try:
            act()
        except Impossible:
            self.thread.conversation = before
            raise

    def _known(self) -> None:
        names = [name for name in self.offer.shown if name in self.bank.skills]
        if not names:
            raise Impossible
        name = self.rng.choices(names, [_OFTENER.get(name, 1.0) for name in names])[0]
        if name == "inpaint" and not self.thread.conversation.masks:
            self._mask_first()
        request = self.rng.choice(self.bank.skills[name])
        speaks_of_one = "mask_" in request.text or "{m}" in request.text
        if speaks_of_one and not self.thread.conversation.masks:
            self._mask_first()
        request = self.thread.renumber_masks(request)
        if self.rng.random() < 0.3:
            request = several_things(request, self.rng)
        if name == "generate":
            self.thread.ask(request, image=self.rng.random() < 0.2)
        else:
            self.thread.ask(request)
        self._call_once(name, request.arguments)

    def _mask_first(self) -> None:
        if not self.offer.has("segment"):
            raise Impossible
        request = self.rng.choice(self.bank.skills["segment"])
        if "labels" not in request.arguments:
            raise Impossible
        self.thread.ask(request)
        self._call_once("segment", request.arguments)
        if not self.thread.conversation.masks:
            raise Impossible

    def _invented(self) -> None:
        if not self.offer.invented:
            raise Impossible
        skill = self.rng.choice(list(self.offer.invented.values()))
        request = self.rng.choice(skill.requests)
        if any("mask" in kind for kind in skill.kinds) and not self.thread.conversation.masks:
            raise Impossible
        self.thread.ask(request, image=skill.takes_image)
        self._call_once(skill.spec.name, request.arguments)

    def _call_once(self, name: str, arguments: Mapping[str, str]) -> None:
        self.thread.say(answer_to(self.thread.call([(name, arguments)])))

    def _plan(self) -> None:
        plans = [plan for plan in self.bank.plans if self.offer.has(*plan.skills)]
        if not plans:
            raise Impossible
        self._carry_out(self.rng.choice(plans))

    def _marked(self) -> None:
        self._carry_out(self.rng.choice(self.bank.marked))

    def _chain(self) -> None:
        """Two wishes or three in one message, of different skills, that fit behind each other."""
        names = [name for name in self.offer.shown if name in _CHAINED]
        count = self.rng.choice((2, 2, 2, 3))
        if len(names) < count:
            raise Impossible
        chosen = self.rng.sample(names, count)
        if "generate" in chosen[1:]:
            raise Impossible
        wishes = [self._wish(name) for name in chosen]
        if any("mask_" in wish.text or "{m}" in wish.text for wish in wishes):
            raise Impossible
        self._carry_out(one_after_another(wishes, self.rng))

    def _wish(self, name: str) -> Plan:
        """A request for a skill; now and then a plan that ends with it."""
        if self.rng.random() < 0.2:
            plans = [plan for plan in self.bank.plans if plan.rounds[-1][-1].skill == name]
            if plans:
                return self.rng.choice(plans)
        request = self.rng.choice(self.bank.skills[name])
        return Plan(request.text, ((Step(name, request.arguments),),))

    def _carry_out(self, plan: Plan) -> None:
        if not self.offer.has(*plan.skills):
            raise Impossible
        first = plan.rounds[0][0]
        by_words = first.skill == "generate" or "query" in first.arguments
        with_image = not by_words or self.rng.random() < 0.3
        arguments = _all_arguments(plan)
        self.thread.ask(Request(plan.text, arguments), image=with_image)
        for kind in sorted(_MARKS & set(arguments.values())):
            self.thread.mark(kind)
        told = []
        for number, steps in enumerate(plan.rounds, start=1):
            later = [step for steps in plan.rounds[number:] for step in steps]
            made = self.thread.call([(step.skill, step.arguments) for step in steps])
            results = list(zip(steps, made, strict=True))
            if later and not goes_on(results, later, self.thread.conversation):
                told += made
                break
            told += [result for step, result in results if not only_serves(step, result, later)]
        self.thread.say(answer_to(told))

    def _none(self) -> None:
        text, answer = self.rng.choice(self.bank.none)
        self.thread.ask(Request(text), image=self.rng.random() < 0.65)
        self.thread.say(self.thread.filled(answer))

    def _repeat(self) -> None:
        text, answer = self.rng.choice(self.bank.repeat)
        self.thread.ask(Request(text, {"words": "{words}"}), image=self.rng.random() < 0.3)
        self.thread.say(self.thread.filled(answer))

    def _missing(self) -> None:
        if (kind := self.rng.random()) < 0.4:
            text, takes = self.rng.choice(self.bank.missing)
            self.thread.ask(Request(text), image=self.rng.random() < 0.5)
        elif kind < 0.6:
            self.thread.ask(self.rng.choice(self._absent().requests))
            self.thread.say("None of the skills here can do that.")
            return
        else:
            absent = [
                name
                for group in _CONFUSABLE
                if not any(name in self.offer.shown for name in group)
                for name in sorted(group)
            ]
            if not absent or self.offer.invented:
                raise Impossible
            name = self.rng.choice(absent)
            self.thread.ask(self.rng.choice(self.bank.skills[name]))
            takes = f"a skill such as {name}"
        self.thread.say(f"None of the skills here can do that; it takes {takes.rstrip('.')}.")

    def _absent(self) -> InventedSkill:
        """A skill that is not on offer and takes no image, so that none of the others fits."""
        skill = self.rng.choice(self.bank.invented)
        if skill.spec.name in self.offer.shown or any(skill.kinds):
            raise Impossible
        return skill

    def _looks(self) -> None:
        ref = self.composer.image(self.rng)
        answers = self.composer.scene(ref).answers
        asked = self.rng.choice([kind for kind in answers if kind in self.bank.looks])
        self.thread.ask_about(ref, self.rng.choice(self.bank.looks[asked]))
        self.thread.say(answers[asked])


def _all_arguments(plan: Plan) -> dict[str, str]:
    return {
        f"{step.skill}.{key}": value
        for steps in plan.rounds
        for step in steps
        for key, value in step.arguments.items()
    }
