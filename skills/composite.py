"""Skills made of other skills: one call runs several, those at once that do not need each other.

How one is written is shown in docs/write-a-skill.md.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import cached_property, partial
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from .discovery import load_skill
from .errors import BadConfiguration, SkillError, SkillFailed, UnknownSkill
from .geometry import Mask
from .images import own_image
from .progress import report_progress
from .readiness import lacks_of
from .skill import Skill, SkillOutput
from .wording import joined

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Composite", "Step", "StepResults", "the_image"]


@dataclass(frozen=True)
class Step:
    """One call of an installed skill within a composite; it is named for the skill unless told.

    `arguments` makes those of the call, images and masks as themselves, of what is known by name:
    the composite's own, and the outputs of the steps in `after`. When it gives None, the step is
    left out. An `optional` step is also left out where its skill lacks something, and may fail.
    """

    skill: str
    arguments: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
    after: tuple[str, ...] = ()
    optional: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.skill)


def the_image(known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a skill that takes no more than the composite's `image`."""
    return {"image": known["image"]}


class StepResults(NamedTuple):
    """The outputs of the steps that ran, and why optional ones gave none, by the steps' names."""

    outputs: dict[str, Any]
    missing: dict[str, str]


class Composite(Skill):
    """A skill that runs the skills of `steps`: its `run` calls `run_steps`, and says what came.

    `uses` follows from the steps that are not optional, and `may_use` from those that are; a
    subclass may add to both, such as to `uses` what has to be there although its step may fail. No
    skill runs more calls at once than its `parallel` allows.
    """

    steps: ClassVar[tuple[Step, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if {"steps", "uses"} & vars(cls).keys():
            needed = [step.skill for step in cls.steps if not step.optional]
            cls.uses = tuple(dict.fromkeys([*needed, *vars(cls).get("uses", ())]))
            others = [step.skill for step in cls.steps if step.optional]
            cls.may_use = tuple(dict.fromkeys([*others, *vars(cls).get("may_use", ())]))

    def setup(self, device: str) -> None:
        """Set up the skills of all steps; models that this process holds already are shared.

        Raises `BadConfiguration` when the steps do not fit together, and what the skills raise.
        """
        self._check()
        parts: dict[str, Skill] = {}
        absent: dict[str, str] = {}
        with _setting_up(self.name), ExitStack() as loaded:
            for name in dict.fromkeys(step.skill for step in self.steps):
                if name not in self.uses and (lacks := lacks_of(name)):
                    absent[name] = lacks
                else:
                    parts[name] = self._load(name)
                    parts[name].setup(device)
                    loaded.callback(parts[name].teardown)
            self._loaded = loaded.pop_all()
        self._parts, self._absent = parts, absent
        self._slots = {name: threading.Semaphore(part.parallel) for name, part in parts.items()}

    def teardown(self) -> None:
        """Let go of all that the skills have loaded."""
        del self._parts
        self._loaded.close()

    def run_steps(self, **arguments: Any) -> StepResults:
        """Run each step as soon as those that it comes after are done, in threads.

        Raises `SkillFailed`, which names the step, when one that is not optional cannot do its
        work, and any other error as it is; both when no step runs any more.
        """
        order, results = self._order(), StepResults({}, {})
        running: dict[Future[SkillOutput], str] = {}
        with ThreadPoolExecutor(len(self.steps), thread_name_prefix=self.name) as threads:
            while order.is_active():
                for name in order.get_ready():
                    if call := self._call(name, arguments, results):
                        # Progress that is reported in the thread is that of this call.
                        running[threads.submit(copy_context().run, call)] = name
                    else:
                        order.done(name)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    self._take(name, future, results)
                    order.done(name)
                    report_progress(sum(map(len, results)), len(self.steps), "parts")
        return results

    def _call(
        self, name: str, arguments: Mapping[str, Any], results: StepResults
    ) -> Callable[[], SkillOutput] | None:
        """What runs a step, or None when it is left out."""
        step = self._by_name[name]
        if why := self._absent.get(step.skill):
            results.missing[name] = why
            return None
        known = {**arguments}
        for other in step.after:
            if other in results.outputs:
                known[other] = results.outputs[other]
        made = step.arguments(MappingProxyType(known))
        if made is None:
            return None
        handles = _Handles({}, {})
        return partial(self._run_part, step.skill, handles.put_into(made), handles)

    def _run_part(self, skill: str, arguments: dict[str, Any], handles: _Handles) -> SkillOutput:
        with self._slots[skill]:
            part = self._parts[skill]
            return part.call(arguments, images=handles.images, masks=handles.masks)

    def _take(self, name: str, future: Future[SkillOutput], results: StepResults) -> None:
        try:
            results.outputs[name] = future.result()
        except SkillError as error:
            if not self._by_name[name].optional:
                raise SkillFailed(f"the step {name!r} of {self.name} failed: {error}") from error
            results.missing[name] = str(error)
        except Exception as error:
            error.add_note(f"This was in the step {name!r} of the skill {self.name!r}.")
            raise

    def _order(self) -> TopologicalSorter[str]:
        order = TopologicalSorter({step.name: step.after for step in self.steps})
        try:
            order.prepare()
        except CycleError as error:
            circle = " before ".join(map(repr, error.args[1]))
            raise BadConfiguration(f"skill {self.name!r}: no step is first: {circle}") from error
        return order

    def _check(self) -> None:
        if not self.steps:
            raise BadConfiguration(f"skill {self.name!r} is a composite without steps")
        names = [step.name for step in self.steps]
        for name, count in Counter([*names, *self.arguments.model_fields]).items():
            if count > 1:
                told = "the name of more than one step or argument: give a step another `name`"
                raise BadConfiguration(f"skill {self.name!r}: {name!r} is {told}")
        for step in self.steps:
            for other in step.after:
                if other not in names:
                    told = f"comes after {other!r}, which is none of its steps: {', '.join(names)}"
                    raise BadConfiguration(f"skill {self.name!r}: the step {step.name!r} {told}")
        self._order()

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    def _load(self, name: str) -> Skill:
        try:
            return load_skill(name)
        except UnknownSkill as error:
            raise BadConfiguration(f"skill {self.name!r}: {error}") from error


class _Handles(NamedTuple):
    """Images and masks under the handles that stand for them in a call."""

    images: dict[str, Image]
    masks: dict[str, Mask]

    def put_into(self, value: Any) -> Any:
        """Arguments with handles in place of the images and masks, which are taken in."""
        from PIL.Image import Image

        match value:
            case Image():
                # Of its own: other steps see the same image at the same time.
                return self._add(self.images, "img", own_image(value))
            case Mask():
                return self._add(self.masks, "mask", value)
            case Mapping():
                return {name: self.put_into(part) for name, part in value.items()}
            case list() | tuple():
                return [self.put_into(part) for part in value]
        return value

    @staticmethod
    def _add(things: dict[str, Any], kind: str, thing: object) -> str:
        handle = f"{kind}_{len(things) + 1}"
        things[handle] = thing
        return handle


_being_set_up: ContextVar[tuple[str, ...]] = ContextVar("being_set_up", default=())


@contextmanager
def _setting_up(name: str) -> Iterator[None]:
    """Around the setup of a composite. Raises `BadConfiguration` for one that is part of itself."""
    around = _being_set_up.get()
    if name in around:
        circle = joined([repr(other) for other in around[around.index(name) :]])
        raise BadConfiguration(f"skills cannot be steps of each other: {circle}")
    token = _being_set_up.set((*around, name))
    try:
        yield
    finally:
        _being_set_up.reset(token)
