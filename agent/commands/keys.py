"""`llava-plus keys`: who may ask the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...skills.extras import needing
from .overrides import settings_of, with_database_options

if TYPE_CHECKING:
    from ..store.keys import KeptKey, Keys

__all__ = ["command"]

T = TypeVar("T")

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_count = click.IntRange(min=1)


@click.group("keys")
def command() -> None:
    """Make, list and revoke the keys of the gateway."""


@command.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("chat", "skills"),
    show_default=True,
    help="What the key is for: chat, skills or admin; may be repeated.",
)
@click.option("--requests-per-minute", type=_count, metavar="N", help="Instead of the settings'.")
@click.option("--concurrent", type=_count, metavar="N", help="Turns at once.")
@click.option("--upload-bytes", type=_count, metavar="N", help="At most that of the settings.")
@click.option("--pixels", type=_count, metavar="N", help="Of one image, width times height.")
@with_database_options
@_json_option
def create(
    name: str,
    scopes: tuple[str, ...],
    config: Path | None,
    database: str | None,
    as_json: bool,
    **limits: int | None,
) -> None:
    """Make a key for NAME, a person or a program, and print it: it is shown this once."""
    given = {limit: value for limit, value in limits.items() if value is not None}
    made, secret = _with_keys(config, database, lambda keys: keys.create(name, scopes, given))
    if as_json:
        click.echo(json.dumps({**_described(made), "key": secret}))
        return
    click.echo(secret)
    click.echo(f"{made.id} of {made.name!r}; only its hash is kept, so write it down.", err=True)


@command.command("list")
@with_database_options
@_json_option
def list_keys(config: Path | None, database: str | None, as_json: bool) -> None:
    """List all keys, without what is secret about them."""
    found = _with_keys(config, database, lambda keys: keys.list())
    if as_json:
        click.echo(json.dumps([_described(key) for key in found]))
        return
    for key in found:
        limits = " ".join(f"{name}={value}" for name, value in key.limits.items())
        state = f"revoked {key.revoked:%Y-%m-%d %H:%M}" if key.revoked else "valid"
        parts = (key.id, f"{key.created:%Y-%m-%d}", ",".join(sorted(key.scopes)), state, limits)
        click.echo("  ".join(part for part in (*parts, key.name) if part))
    if not found:
        click.echo("There is no key yet: `llava-plus keys create NAME` makes one.", err=True)


@command.command("revoke")
@click.argument("id_", metavar="ID")
@with_database_options
def revoke(id_: str, config: Path | None, database: str | None) -> None:
    """Let a key be of no use from now on; a running gateway heeds it within seconds."""
    ended = _with_keys(config, database, lambda keys: keys.revoke(id_))
    click.echo(f"{ended.id} of {ended.name!r} is revoked")


def _with_keys(config: Path | None, database: str | None, act: Callable[[Keys], Awaitable[T]]) -> T:
    with needing("gateway", "keeping keys"):
        from ..store.store import open_store
    place = settings_of(config, {"database.url": database}).database

    async def acted() -> T:
        async with open_store(place.url, place.artifacts) as store:
            return await act(store.keys)

    return asyncio.run(acted())


def _described(key: KeptKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "limits": dict(key.limits),
        "created": key.created.isoformat(),
        "revoked": key.revoked.isoformat() if key.revoked else None,
    }
