"""From calls to outcomes, in a thread: arguments checked, the skill run, its images stored."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .calls import Artifact, SkillResult, SkillUse
from .errors import SkillError, SkillFailed, WorkerUnavailable
from .geometry import Mask
from .images import ImageStore, encode_image, own_image
from .memory import is_out_of_memory, release_memory
from .progress import Cancelled, Watch, reporting_to
from .skill import Skill, SkillOutput
from .wire import SkillCrashed

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Call", "Outcome", "work"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A call with all that its handles stand for; images that it makes go into `store`.

    `watch` hears of its progress, in the thread of the skill. `given_up` is set when nobody
    waits for it any more.
    """

    use: SkillUse
    images: Mapping[str, Image]
    masks: Mapping[str, Mask]
    store: ImageStore
    watch: Watch | None = None
    given_up: threading.Event = field(default_factory=threading.Event)


Outcome = SkillResult | SkillError | WorkerUnavailable


def work(skill: Skill, calls: Sequence[Call]) -> list[Outcome]:
    """What comes of each call; those of several that fail together are tried one by one.

    So a bad image or argument, or a batch too large for the memory, costs only the call whose
    fault it is. Calls that have all been given up end where the skill next reports its progress.
    """
    if len(calls) > 1:
        try:
            with _reporting(calls):
                outputs = skill.run_batch([_arguments(skill, call) for call in calls])
            return [_result(*pair) for pair in zip(calls, outputs, strict=True)]
        except Cancelled:
            return [_stopped(skill, call) for call in calls]
        except Exception as error:  # each of them is told its own below
            log.info("%d calls of %r failed together: %s", len(calls), skill.name, error)
            if is_out_of_memory(error):
                release_memory()
    return [_alone(skill, call) for call in calls]


def _reporting(calls: Sequence[Call]) -> AbstractContextManager[None]:
    return reporting_to(
        (call.watch for call in calls), until=lambda: all(call.given_up.is_set() for call in calls)
    )


def _stopped(skill: Skill, call: Call) -> Outcome:
    log.info("call %r of %r was stopped: nobody waits for it", call.use.id, skill.name)
    return WorkerUnavailable(f"{skill.name} was stopped, because nobody waited for it any more")


def _alone(skill: Skill, call: Call) -> Outcome:
    if call.given_up.is_set():
        return _stopped(skill, call)
    try:
        with _reporting([call]):
            output = skill.run_checked(_arguments(skill, call))
        return _result(call, output)
    except Cancelled:
        return _stopped(skill, call)
    except (SkillError, WorkerUnavailable) as error:  # of a worker behind this one, the latter
        return error
    except (Exception, SystemExit) as error:  # a skill may fail in any way; the model is told
        told = f"{skill.name} failed: {type(error).__name__}: {error}"
        if is_out_of_memory(error):
            log.warning("skill %r ran out of memory: %s", skill.name, error)
            release_memory()
            return SkillFailed(f"{skill.name} ran out of memory; try a smaller image")
        log.exception("skill %r crashed", skill.name)
        crash = SkillCrashed(told)
        crash.__cause__ = error
        return crash


def _arguments(skill: Skill, call: Call) -> dict[str, Any]:
    images = {handle: own_image(image) for handle, image in call.images.items()}
    return skill.check(call.use.arguments, images=images, masks=dict(call.masks))


def _result(call: Call, output: SkillOutput) -> SkillResult:
    artifacts = [
        Artifact(
            label=label,
            image=call.store.add(encode_image(image), name=f"image {label}".strip()),
        )
        for label, image in output.images()
    ]
    artifacts += [Artifact(label=label, mask=mask) for label, mask in output.masks()]
    return SkillResult(
        id=call.use.id,
        name=call.use.name,
        text=output.text(),
        data=output.model_dump(mode="json"),
        artifacts=tuple(artifacts),
    )
