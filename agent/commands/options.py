"""Options that several commands share, and what they make together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...skills.images import ImageRef, ImageStore, read_file
from ..profiles import PROFILES
from ..session import SessionOptions

if TYPE_CHECKING:
    from ..mcp.headers import ServerHeaders

__all__ = [
    "NAMES",
    "adding",
    "out_option",
    "read_images",
    "session_options",
    "with_session_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])


class _Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them; empty text means none at all."""

    name = "a,b"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(name.strip() for name in names if name.strip())


NAMES = _Names()

_SESSION_OPTIONS = (
    click.option(
        "--profile",
        type=click.Choice(list(PROFILES)),
        default="embedded",
        envvar="LLAVA_PLUS_PROFILE",
        show_default=True,
        help="Defaults for all that follows.",
    ),
    click.option(
        "--lmm",
        metavar="NAME",
        envvar="LLAVA_PLUS_LMM",
        help="embedded, a folder, a name on the hub, or URL#MODEL of an OpenAI-compatible server.",
    ),
    click.option("--device", help="cpu, cuda or auto. [default: of the profile]"),
    click.option("--skills", type=NAMES, help="Offer only these skills; '' offers none."),
    click.option(
        "--offer",
        type=click.IntRange(min=2),
        metavar="N",
        help="Show the LMM the N likeliest skills for a request; it can look for the others.",
    ),
    click.option(
        "--workers",
        metavar="URL",
        multiple=True,
        help="Use this running worker instead of starting one; may be repeated.",
    ),
    click.option(
        "--mcp",
        metavar="URL|COMMAND",
        multiple=True,
        help="Offer the tools of this MCP server too; may be repeated.",
    ),
    click.option(
        "--max-steps",
        type=click.IntRange(1, 100),
        default=6,
        show_default=True,
        help="Replies of the LMM per request; the last must be an answer.",
    ),
    click.option(
        "--turn-seconds",
        type=click.FloatRange(min=0, min_open=True),
        default=120.0,
        show_default=True,
        help="Time for one request, skills included.",
    ),
)

out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("llava-plus-out"),
    show_default=True,
    help="Folder for annotated and edited images.",
)


def adding(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """A decorator that adds several options to a command, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


with_session_options = adding(*_SESSION_OPTIONS)
"""Adds the options that `session_options` reads."""


def _mcp_headers() -> ServerHeaders:
    from ..settings import load_settings

    # Nothing else of them counts here, so none of what a profile needs must be there.
    return load_settings({"profile": "embedded"}).mcp.headers


def session_options(
    *,
    profile: str,
    lmm: str | None,
    device: str | None,
    skills: tuple[str, ...] | None,
    workers: tuple[str, ...],
    mcp: tuple[str, ...] = (),
    offer: int | None,
    max_steps: int,
    turn_seconds: float,
    plan: bool = False,
) -> SessionOptions:
    """The options of a session, with the profile's defaults.

    Raises `click.UsageError`, or `BadConfiguration` for headers of `mcp` that cannot be any.
    """
    chosen = PROFILES[profile]
    if not (lmm or chosen.lmm):
        raise click.UsageError(f"profile {profile!r} needs --lmm URL#MODEL")
    if not (workers or chosen.starts_workers or plan):
        raise click.UsageError(f"profile {profile!r} needs --workers URL")
    return SessionOptions(
        lmm=lmm or chosen.lmm or "",
        skills=skills,
        workers=workers,
        mcp=mcp,
        mcp_headers=_mcp_headers() if mcp else {},
        device=device or chosen.device,
        max_steps=max_steps,
        turn_seconds=turn_seconds,
        plan=plan,
        offer=offer,
    )


def read_images(paths: Sequence[Path], store: ImageStore) -> list[ImageRef]:
    """Check the images at `paths` and keep them. Raises `BadInput` that names the file."""
    return [store.add(read_file(path), name=str(path)) for path in paths]
