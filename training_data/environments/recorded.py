"""Results of real skills, kept in a folder by what was asked, so that a run needs no worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...agent.call_scope import CallScope
from ...agent.dispatcher import Dispatcher
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.errors import BadConfiguration, WorkerUnavailable
from ...skills.images import ImageRef, ImageStore
from ...skills.skill import describe_validation

__all__ = ["NotRecorded", "RecordedDispatcher"]


class NotRecorded(WorkerUnavailable):
    """A call was made that has no recorded result, and no worker may be asked."""


class RecordedDispatcher:
    """Answers from `folder`; what is not there is asked of `live`, if given, and kept.

    A call is known by its skill, its arguments and the content of the images and masks that it
    names, whatever their handles. Findings and problems are kept alike; that a worker was down
    or late is not. Images that skills made lie in `folder/images` under their hashes.
    """

    def __init__(self, folder: Path, live: Dispatcher | None = None) -> None:
        if live is None and not folder.is_dir():
            raise BadConfiguration(f"there is no folder {folder} with recorded results")
        self._folder = folder
        self._live = live

    async def specs(self) -> list[SkillSpec]:
        """Every skill of the workers; none where there are only recordings."""
        return await self._live.specs() if self._live else []

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Answer one use; see `Dispatcher`. Raises `NotRecorded` where nobody can."""
        path = self._path(use, scope)
        if path.exists():
            return self._replayed(path, scope.store).model_copy(update={"id": use.id})
        if self._live is None:
            raise NotRecorded(
                f"{self._folder} has no result of {use.name!r} with {_json(use.arguments)}; record "
                "it with workers (findings: live)"
            )
        result = await self._live.dispatch(use, scope)
        self._keep(path, result, scope.store)
        return result

    async def aclose(self) -> None:
        """Let go of the workers."""
        if self._live:
            await self._live.aclose()

    def _path(self, use: SkillUse, scope: CallScope) -> Path:
        shown, outlined = scope.named(use.arguments)
        content = {
            **{handle: f"image {ref.sha256}" for handle, ref in shown.items()},
            **{handle: f"mask {mask.model_dump_json()}" for handle, mask in outlined.items()},
        }
        key = _json([use.name, _with_content(use.arguments, content)])
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest}.json"

    def _replayed(self, path: Path, store: ImageStore) -> SkillResult:
        try:
            result = SkillResult.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BadConfiguration(f"{path}: {describe_validation(error)}") from error
        for artifact in result.artifacts:
            if artifact.image:
                kept = self._image(artifact.image)
                try:
                    store.add(kept.read_bytes(), name=str(kept))
                except OSError as error:
                    raise BadConfiguration(f"{path} needs {kept}: {error.strerror}") from error
        return result

    def _keep(self, path: Path, result: SkillResult, store: ImageStore) -> None:
        for artifact in result.artifacts:
            if artifact.image:
                _write(self._image(artifact.image), store.data(artifact.image))
        # The result last: where it is, its images are.
        _write(path, result.model_dump_json().encode())

    def _image(self, ref: ImageRef) -> Path:
        return self._folder / "images" / ref.sha256


def _with_content(value: Any, content: Mapping[str, str]) -> Any:
    """A JSON value whose handles are replaced by what they stand for."""
    if isinstance(value, str):
        return content.get(value, value)
    if isinstance(value, list):
        return [_with_content(item, content) for item in value]
    if isinstance(value, dict):
        return {key: _with_content(item, content) for key, item in value.items()}
    return value


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
