"""Really running skills, each call once: what it brought is kept with the images that it made."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...agent.call_scope import CallScope, named_in
from ...agent.checking import UseChecker
from ...agent.dispatcher import Dispatcher
from ...agent.record import image_name
from ...model.conversation import Conversation
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.images import ImageRef, ImageStore, read_file
from ..suites.answers import content_key
from .kept import Kept

__all__ = ["SkillRuns"]


class SkillRuns:
    """Runs calls through a dispatcher; `folder` keeps the images that skills made.

    `settings` are those under which a skill runs, where they are known: a result that was kept
    under others is not taken.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        skills: tuple[SkillSpec, ...],
        kept: Kept,
        folder: Path,
        *,
        seconds: float = 120.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.skills = skills
        self.checker = UseChecker(skills)
        self._dispatcher = dispatcher
        self._specs = {spec.name: spec for spec in skills}
        self._kept = kept
        self._folder = folder
        self._seconds = seconds
        self._settings = {name: {"settings": found} for name, found in (settings or {}).items()}

    async def run(
        self, use: SkillUse, conversation: Conversation, store: ImageStore
    ) -> SkillResult:
        """What the call brings, or brought before; its images are in `store` then.

        Raises `BadSkillUse` for handles that cannot be sent, and `WorkerUnavailable` and
        `DeadlineExceeded` as the dispatcher does.
        """
        images, masks = named_in(use.arguments, conversation.images, conversation.masks)
        key = content_key(
            skill=self._specs[use.name].model_dump(mode="json"),
            arguments=use.arguments,
            images={handle: ref.sha256 for handle, ref in images.items()},
            masks={handle: mask.model_dump(mode="json") for handle, mask in masks.items()},
            **self._settings.get(use.name, {}),
        )

        async def run() -> Any:
            return (await self._run(use, conversation, store)).model_dump(mode="json")

        value, new = await self._kept.get(key, run, skill=use.name)
        result = SkillResult.model_validate(value).model_copy(update={"id": use.id})
        if not new:
            for ref in _images_of(result):
                store.add(read_file(self._folder / image_name(ref)), name=image_name(ref))
        return result

    def place(self, ref: ImageRef, folder: Path) -> str:
        """Put an image that a skill made into `folder`, and give its name there."""
        name = image_name(ref)
        target = folder / name
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._folder / name, target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(self._folder / name, target)
        return name

    async def _run(
        self, use: SkillUse, conversation: Conversation, store: ImageStore
    ) -> SkillResult:
        result = await self._dispatcher.dispatch(
            use,
            CallScope(
                images=conversation.images,
                masks=conversation.masks,
                store=store,
                deadline=time.monotonic() + self._seconds,
            ),
        )
        for ref in _images_of(result):
            _write(self._folder / image_name(ref), store.data(ref))
        return result


def _images_of(result: SkillResult) -> list[ImageRef]:
    return [artifact.image for artifact in result.artifacts if artifact.image]


def _write(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, before anything says that it is there."""
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(data)
        part.replace(path)
