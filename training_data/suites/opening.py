"""Opening what a suite is played with: the LMM, its skills, and a judge."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...agent.session import SessionOptions, open_lmm, open_session
from ...model.lmm import LMM
from ...model.remote import API_KEY_VARIABLE, RemoteLMM
from ...model.shipped import weights_of
from .judge import Judge
from .players import Stage

__all__ = ["JUDGE_KEY_VARIABLE", "Opening", "model_label", "open_judge", "open_stages"]

JUDGE_KEY_VARIABLE = "LLAVA_PLUS_JUDGE_API_KEY"
"""The judge's key, where it is not the one of the LMM."""


@dataclass(frozen=True)
class Opening:
    """How to open the stages: `on` with the skills of the session, `off` without any.

    With `installed=False` nothing will be run, and no worker is started. `request` are further
    fields of the requests to a remote LMM; others take no notice of it.
    """

    session: SessionOptions
    settings: tuple[str, ...]
    installed: bool = True
    request: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def open_stages(opening: Opening) -> AsyncIterator[dict[str, Stage]]:
    """A stage for each setting, with one LMM; everything is closed at the end."""
    session = opening.session
    stages: dict[str, Stage] = {}
    async with AsyncExitStack() as stack:
        lmm = _remote(session.lmm, opening.request)
        if lmm:
            stack.push_async_callback(lmm.aclose)
        common: dict[str, Any] = {
            "model": model_label(session.lmm),
            "max_steps": session.max_steps,
            "turn_seconds": session.turn_seconds,
            "request": opening.request if lmm else {},
        }
        if "on" in opening.settings and opening.installed:
            opened = await stack.enter_async_context(open_session(session))
            lmm = lmm or opened.agent.lmm
            dispatcher, skills = opened.agent.dispatcher, opened.skills
            stages["on"] = Stage(lmm, dispatcher=dispatcher, skills=skills, **common)
        for setting in opening.settings:
            if setting not in stages:
                if lmm is None:
                    lmm = open_lmm(session.lmm, session.device)
                    stack.push_async_callback(lmm.aclose)
                stages[setting] = Stage(lmm, **common)
        yield stages


@asynccontextmanager
async def open_judge(
    name: str | None, request: Mapping[str, Any], device: str
) -> AsyncIterator[Judge | None]:
    """The LMM of this name as a judge, with its own key if it has one; none without a name."""
    if name is None:
        yield None
        return
    keys = (JUDGE_KEY_VARIABLE, API_KEY_VARIABLE)
    lmm = _remote(name, request, keys) or open_lmm(name, device)
    try:
        yield Judge(lmm, model_label(name), request)
    finally:
        await lmm.aclose()


def model_label(name: str) -> str:
    """The name under which answers are kept; of a folder also which files it holds.

    A model that was trained on in the same folder is another one.
    """
    folder = _folder(name)
    if folder is None or not folder.is_dir():
        return name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in files
    ]
    return f"{name} {hashlib.sha256(chr(10).join(told).encode()).hexdigest()[:16]}"


def _folder(name: str) -> Path | None:
    if name.startswith(("http://", "https://")):
        return None
    return Path(weights_of(name))


def _remote(
    name: str, request: Mapping[str, Any], keys: Sequence[str] = (API_KEY_VARIABLE,)
) -> LMM | None:
    url, _, model = name.partition("#")
    if not (model and url.startswith(("http://", "https://"))):
        return None
    return RemoteLMM(url, model, key_variables=keys, options=request)
