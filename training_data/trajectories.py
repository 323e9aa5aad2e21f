"""Composing trajectories: a random catalogue, hand-written requests, calls, results and answers.

The trajectories of one group share their catalogue, so that training computes it only once.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..model.conversation import AssistantMessage, Conversation, SkillMessage
from ..skills.calls import SkillResult, SkillSpec, SkillUse
from ..skills.images import ImageRef
from .bank import Bank, InventedSkill, Plan, Request, Step
from .offers import Offer, draw_offer
from .outcomes import TELLING, answer_to, fail, invent_result, tell_differently
from .scenes import Scene
from .slots import Filler, fill_value, roughen
from .widening import one_after_another, several_things

__all__ = ["Composer", "Portions"]

_CONFUSABLE = (
    {"detect", "segment", "describe_regions", "tag", "caption"},
    {"adjust", "edit", "inpaint", "generate"},
    {"ocr"},
    {"retrieve"},
)
_CHAINED = frozenset("ocr detect segment adjust caption tag retrieve generate edit".split())
_MASK = re.compile(r"mask_\d")
_BARE = frozenset(("prompt", "query"))
"""Free text that begins behind its article."""


@dataclass(frozen=True)
class Portions:
    """How often each kind of request is composed, as weights."""

    known: float = 0.36
    invented: float = 0.50
    plan: float = 0.34
    chain: float = 0.12
    none: float = 0.24
    missing: float = 0.06
    looks: float = 0.10
    repeat: float = 0.06


class _Impossible(Exception):
    """The request does not fit the situation; another one is drawn."""


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
        thread = _Thread(self, rng, offer, Conversation(skills=skills))
        while turns:
            try:
                thread.turn()
            except _Impossible:
                continue
            turns -= 1
        return thread.conversation

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


class _Thread:
    """One conversation while it is composed."""

    def __init__(
        self, composer: Composer, rng: random.Random, offer: Offer, conversation: Conversation
    ) -> None:
        self.composer = composer
        self.bank = composer.bank
        self.rng = rng
        self.offer = offer
        self.conversation = conversation
        self._ids = (f"call_{number}" for number in itertools.count(1))

    def turn(self) -> None:
        """Add one request and all that follows from it. Raises `_Impossible` to try again."""
        portions = self.composer.portions
        kinds: dict[str, tuple[float, Callable[[], None]]] = {
            "known": (portions.known, self._known),
            "invented": (portions.invented, self._invented),
            "plan": (portions.plan, self._plan),
            "chain": (portions.chain, self._chain),
            "none": (portions.none, self._none),
            "missing": (portions.missing, self._missing),
            "looks": (portions.looks, self._looks),
            "repeat": (portions.repeat, self._repeat),
        }
        weights = [weight for weight, _ in kinds.values()]
        act = self.rng.choices([act for _, act in kinds.values()], weights)[0]
        before = self.conversation
        try:
            act()
        except _Impossible:
            self.conversation = before
            raise

    # --- the kinds of request

    def _known(self) -> None:
        names = [name for name in self.offer.shown if name in self.bank.skills]
        if not names:
            raise _Impossible
        name = self.rng.choice(names)
        if name == "inpaint" and not self.conversation.masks:
            self._mask_first()
        request = self.rng.choice(self.bank.skills[name])
        if "mask_" in request.text and not self.conversation.masks:
            self._mask_first()
        request = self._renumber_masks(request)
        if self.rng.random() < 0.3:
            request = several_things(request, self.rng)
        if name == "generate":
            self._ask(request, image=self.rng.random() < 0.2)
        else:
            self._ask(request)
        self._call_once(name, request.arguments)

    def _mask_first(self) -> None:
        if not self.offer.has("segment"):
            raise _Impossible
        request = self.rng.choice(self.bank.skills["segment"])
        if "labels" not in request.arguments:
            raise _Impossible
        self._ask(request)
        self._call_once("segment", request.arguments)
        if not self.conversation.masks:
            raise _Impossible

    def _renumber_masks(self, request: Request) -> Request:
        """The request about masks that there are. Raises `_Impossible` where there are too few."""
        named = list(dict.fromkeys(_MASK.findall(request.text)))
        masks = list(self.conversation.masks)
        if len(masks) < len(named):
            raise _Impossible
        others = dict(zip(named, self.rng.sample(masks, len(named)), strict=True))

        def renumber(text: str) -> str:
            return _MASK.sub(lambda match: others[match[0]], text)

        arguments = {key: renumber(value) for key, value in request.arguments.items()}
        return Request(renumber(request.text), arguments)

    def _invented(self) -> None:
        if not self.offer.invented:
            raise _Impossible
        skill = self.rng.choice(list(self.offer.invented.values()))
        request = self.rng.choice(skill.requests)
        kinds = [s.get("pattern", "") for s in skill.spec.parameters["properties"].values()]
        if any("mask" in kind for kind in kinds) and not self.conversation.masks:
            raise _Impossible
        self._ask(request, image=any("img" in kind for kind in kinds))
        self._call_once(skill.spec.name, request.arguments)

    def _plan(self) -> None:
        plans = [plan for plan in self.bank.plans if self.offer.has(*plan.skills)]
        if not plans:
            raise _Impossible
        self._carry_out(self.rng.choice(plans))

    def _chain(self) -> None:
        """Two wishes or three in one message, of different skills, that fit behind each other."""
        names = [name for name in self.offer.shown if name in _CHAINED]
        count = self.rng.choice((2, 2, 2, 3))
        if len(names) < count:
            raise _Impossible
        chosen = self.rng.sample(names, count)
        if "generate" in chosen[1:]:
            raise _Impossible
        wishes = [self._wish(name) for name in chosen]
        if any("mask_" in wish.text or "{m}" in wish.text for wish in wishes):
            raise _Impossible
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
            raise _Impossible
        first = plan.rounds[0][0]
        by_words = first.skill == "generate" or "query" in first.arguments
        with_image = not by_words or self.rng.random() < 0.3
        self._ask(Request(plan.text, _all_arguments(plan)), image=with_image)
        told: list[SkillMessage] = []
        for number, steps in enumerate(plan.rounds, start=1):
            later = [step for steps in plan.rounds[number:] for step in steps]
            made = self._call([(step.skill, step.arguments) for step in steps])
            results = list(zip(steps, made, strict=True))
            if later and not _goes_on(results, later, self.conversation):
                told += made
                break
            told += [result for step, result in results if not _only_serves(step, result, later)]
        self._say(answer_to(told))

    def _none(self) -> None:
        text, answer = self.rng.choice(self.bank.none)
        self._ask(Request(text), image=self.rng.random() < 0.65)
        self._say(self.filler.fill(answer))

    def _repeat(self) -> None:
        text, answer = self.rng.choice(self.bank.repeat)
        self._ask(Request(text, {"words": "{words}"}), image=self.rng.random() < 0.3)
        self._say(self.filler.fill(answer))

    def _missing(self) -> None:
        if (kind := self.rng.random()) < 0.4:
            text, takes = self.rng.choice(self.bank.missing)
            self._ask(Request(text), image=self.rng.random() < 0.5)
        elif kind < 0.6:
            self._ask(self.rng.choice(self._absent().requests))
            self._say("None of the skills here can do that.")
            return
        else:
            absent = [
                name
                for group in _CONFUSABLE
                if not any(name in self.offer.shown for name in group)
                for name in sorted(group)
            ]
            if not absent or self.offer.invented:
                raise _Impossible
            name = self.rng.choice(absent)
            self._ask(self.rng.choice(self.bank.skills[name]))
            takes = f"a skill such as {name}"
        self._say(f"None of the skills here can do that; it takes {takes.rstrip('.')}.")

    def _absent(self) -> InventedSkill:
        """A skill that is not on offer and takes no image, so that none of the others fits."""
        skill = self.rng.choice(self.bank.invented)
        properties = skill.spec.parameters["properties"].values()
        if skill.spec.name in self.offer.shown or any("pattern" in one for one in properties):
            raise _Impossible
        return skill

    def _looks(self) -> None:
        ref = self.composer.image(self.rng)
        answers = self.composer.scene(ref).answers
        asked = self.rng.choice([kind for kind in answers if kind in self.bank.looks])
        text = self.rng.choice(self.bank.looks[asked])
        self._start(ref)
        self.conversation = self.conversation.ask(self._rough(text, ()), [ref])
        self._say(answers[asked])

    # --- the parts of a turn

    def _start(self, ref: ImageRef | None) -> None:
        number = len(self.conversation.images) + bool(ref)
        self.filler = Filler.of(
            self.bank,
            self.rng,
            image=f"img_{max(number, 1)}",
            mask=f"mask_{max(len(self.conversation.masks), 1)}",
        )

    def _ask(self, request: Request, *, image: bool = True) -> None:
        """Add the request, with an image when the conversation has none yet.

        Two in three times the image is only named, not shown: most requests are understood
        from their words, and an image costs its tokens.
        """
        new = image and not self.conversation.images and not self._named()
        ref = self.composer.image(self.rng) if new and self.rng.random() < 0.35 else None
        self._start(ref)
        if "{m}" in request.text and self.conversation.masks:
            self.filler.mask = self.rng.choice(list(self.conversation.masks))
        kept = [str(self.filler.fill(v)) for v in request.arguments.values() if "$" not in v]
        text = self._rough(self.filler.fill(request.text), [word.strip("[]") for word in kept])
        if new and ref is None:
            self.conversation = self.conversation.ask_about(text, ["img_1"])
        else:
            self.conversation = self.conversation.ask(text, [ref] if ref else [])

    def _named(self) -> bool:
        return any(
            message.images for message in self.conversation.messages if message.role == "user"
        )

    def _rough(self, text: str, kept: Sequence[str]) -> str:
        split = [part.strip() for value in kept for part in value.split(",")]
        return roughen(text, split, self.rng, self.composer.remarks)

    def _call_once(self, name: str, arguments: Mapping[str, str]) -> None:
        self._say(answer_to(self._call([(name, arguments)])))

    def _call(self, calls: Sequence[tuple[str, Mapping[str, str]]]) -> list[SkillMessage]:
        """Make the calls of one reply and bring their results."""
        uses = [(name, self._use(name, arguments)) for name, arguments in calls]
        self.conversation = self.conversation.reply(
            AssistantMessage(skill_uses=tuple(use for _, use in uses))
        )
        for name, use in uses:
            self.conversation = self.conversation.add_result(self._result(name, use))
        results = self.conversation.messages[-len(uses) :]
        return [message for message in results if isinstance(message, SkillMessage)]

    def _use(self, name: str, arguments: Mapping[str, str]) -> SkillUse:
        spec = self.offer.shown[name]
        renames = self.offer.arguments[name]
        given = {renames.get(key, key): value for key, value in arguments.items()}
        values: dict[str, Any] = {}
        truth = self.offer.true_parameters(name)["properties"]
        back = {shown: true for true, shown in renames.items()}
        for key in spec.parameters["properties"]:
            true_key = back.get(key, key)
            schema = truth[true_key]
            if key in given:
                values[key] = self._value(given[key], schema)
                if name in self.bank.skills and true_key in _BARE:
                    values[key] = re.sub(r"^(an?|the) ", "", values[key], flags=re.IGNORECASE)
            elif "img_" in schema.get("pattern", "") and self._wants_image(name, spec, key, given):
                values[key] = self._latest_image()
            elif key in spec.parameters["required"]:
                raise _Impossible
        return SkillUse(id=next(self._ids), name=spec.name, arguments=values)

    def _wants_image(self, name: str, spec: SkillSpec, key: str, given: Mapping[str, str]) -> bool:
        if key in spec.parameters["required"]:
            return True
        return name == "retrieve" and not set(given) - {"k"}

    def _value(self, text: str, schema: Mapping[str, Any]) -> Any:
        if text == "$boxes":
            return _boxes(self.conversation)
        if text == "$mask":
            return next(reversed(list(self.conversation.masks)), None) or _impossible()
        if text == "$image":
            return self._latest_image()
        value = fill_value(text, self.filler, schema)
        one_of_many = "maxItems" in schema.get("items", {})
        if one_of_many and isinstance(value, list) and not isinstance(value[0], list):
            return [value]  # one box where boxes are wanted
        return value

    def _latest_image(self) -> str:
        """The newest image; of several that the last call brought, the first."""
        last = self.conversation.messages[-1]
        if isinstance(last, SkillMessage) and last.images:
            return next(iter(last.images))
        return next(reversed(list(self.conversation.images)), "img_1")

    def _result(self, name: str, use: SkillUse) -> SkillResult:
        if self.rng.random() < 0.07:
            return fail(use, self.rng)
        if name in self.offer.invented:
            told = self.filler.fill(tell_differently(self.bank.findings, self.rng, self.bank.nouns))
            return SkillResult(id=use.id, name=use.name, text=told)
        image = self.composer.image(self.rng)
        return invent_result(name, use, self.rng, self.bank.nouns, image)

    def _say(self, answer: str) -> None:
        self.conversation = self.conversation.reply(AssistantMessage(text=answer))


def _impossible() -> Any:
    raise _Impossible


def _all_arguments(plan: Plan) -> dict[str, str]:
    return {
        f"{step.skill}.{key}": value
        for steps in plan.rounds
        for step in steps
        for key, value in step.arguments.items()
    }


_MADE_BY = {"$boxes": "detect", "$mask": "segment"}


def _only_serves(step: Step, result: SkillMessage, later: Sequence[Step]) -> bool:
    """Whether a result is only for a later step, so that the answer does not tell it."""
    if result.result.error or not later:
        return False
    if step.skill in _MADE_BY.values():
        wanted = {value for following in later for value in following.arguments.values()}
        return any(_MADE_BY.get(value) == step.skill for value in wanted)
    return step.skill not in TELLING


def _goes_on(
    results: Sequence[tuple[Step, SkillMessage]], later: Sequence[Step], conversation: Conversation
) -> bool:
    """Whether the next step of a plan has what it needs from the results before it."""
    wanted = set(later[0].arguments.values())
    for step, message in results:
        lost = message.result.error or message.result.text.startswith("Found no similar")
        by_itself = step.skill in TELLING or step.skill in _MADE_BY.values()
        if lost and not by_itself:
            return False
    if "$boxes" in wanted and not _boxes(conversation):
        return False
    return not ("$mask" in wanted and not conversation.masks)


def _boxes(conversation: Conversation) -> list[list[float]]:
    """The boxes that the latest result lists."""
    last = conversation.messages[-1]
    if not isinstance(last, SkillMessage):
        last = next(m for m in reversed(conversation.messages) if isinstance(m, SkillMessage))
    found = re.findall(r"^.* (\[[0-9., ]+\])$", last.result.text, flags=re.MULTILINE)
    return [json.loads(box) for box in found]
