"""Opening what records are made with: the labeler, what it said before, and the skills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...agent.session import SessionOptions, open_session
from ...model.lmm import LMM
from ...skills.errors import BadConfiguration, BadInput
from ...skills.readiness import with_used
from ...skills.settings import settings_in_force
from ..suites.answers import AnswerFile
from .instructions import INSTRUCTION_KINDS
from .kept import Kept
from .labeler import Labeler, labeler_key, remote_labeler
from .on_ray import Cluster, asked_on_ray
from .pace import Pace
from .recipe import Stage
from .skill_runs import SkillRuns
from .tool_use import skills_of

__all__ = ["TOOLS", "Opening", "check_families", "open_stage"]

TOOLS = "tools"
"""The kind that stands for all families of skills."""


@dataclass(frozen=True)
class Opening:
    """How to open a stage; `folder` keeps replies, results and made images for another run.

    `families` are skills, or several with `+` between them; with none every skill on offer is
    one. Without `tools` no skill is opened. `pace` is requests and tokens a minute. With a
    `cluster` the labeler is asked from its processes.
    """

    labeler: str
    folder: Path
    request: Mapping[str, Any] = field(default_factory=dict)
    pace: tuple[int | None, int | None] = (None, None)
    tools: bool = False
    families: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    device: str = "cpu"
    skill_seconds: float = 120.0
    cluster: Cluster | None = None


@asynccontextmanager
async def open_stage(opening: Opening) -> AsyncIterator[Stage]:
    """A stage; everything is closed at the end."""
    images = opening.folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:

        def kept(name: str) -> Kept:
            return Kept(stack.enter_context(AnswerFile(opening.folder / name)))

        pace = Pace(*opening.pace)
        lmm = await stack.enter_async_context(_labeling(opening))
        labeler = Labeler(lmm, lmm.name, kept("said.jsonl"), request=opening.request, pace=pace)
        if not opening.tools:
            yield Stage(labeler)
            return
        session = await stack.enter_async_context(open_session(_session(opening)))
        if not session.skills:
            raise BadConfiguration("no skill is on offer: `llava-plus skills` says what is missing")
        dispatcher, seconds = session.agent.dispatcher, opening.skill_seconds
        settings = {} if opening.workers else _settings_of(spec.name for spec in session.skills)
        runs = SkillRuns(
            dispatcher,
            session.skills,
            kept("runs.jsonl"),
            images,
            seconds=seconds,
            settings=settings,
        )
        yield Stage(labeler, runs)


@asynccontextmanager
async def _labeling(opening: Opening) -> AsyncIterator[LMM]:
    """The LMM that labels, asked from here or by Ray."""
    lmm = remote_labeler(opening.labeler, opening.request, labeler_key())
    try:
        if opening.cluster is None:
            yield lmm
            return
        async with asked_on_ray(opening.labeler, opening.request, opening.cluster) as spread:
            yield spread
    finally:
        await lmm.aclose()


def check_families(families: Sequence[str]) -> None:
    """Raises `BadInput` for a family that names no skill, or one of them twice."""
    for family in families:
        names = skills_of(family)
        if not all(names) or len(set(names)) < len(names) or family in INSTRUCTION_KINDS:
            raise BadInput(f"{family!r} is no family: name skills, with + between several")


def _settings_of(skills: Iterable[str]) -> dict[str, Any]:
    """The settings under which each skill runs here, with those of the skills that it uses."""
    return {name: settings_in_force(*with_used(name, optional=True)) for name in skills}


def _session(opening: Opening) -> SessionOptions:
    """The session in which the skills run; its LMM is the labeler, which is asked elsewhere."""
    names = dict.fromkeys(name for family in opening.families for name in skills_of(family))
    return SessionOptions(
        lmm=opening.labeler,
        skills=tuple(names) or None,
        workers=opening.workers,
        device=opening.device,
    )
