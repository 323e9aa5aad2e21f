"""`llava-plus skills`: what is installed, what each skill runs on, and what it still lacks."""

from __future__ import annotations

import json
import pkgutil
from typing import Any

import click

from ...skills.backends import BACKENDS
from ...skills.discovery import InstalledSkill, installed_skills, load_skill
from ...skills.errors import BadConfiguration, UnknownSkill
from ...skills.readiness import readiness, with_used
from ...skills.weights import HasWeights
from ...skills.wording import joined
from ..report import plain
from ..session import chosen_device
from . import calibrate

__all__ = ["command"]


@click.group("skills", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, with every spec.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
@click.pass_context
def command(context: click.Context, as_json: bool, device: str) -> None:
    """List the installed skills: package, backend, device, licences, and what each one lacks.

    A plugin that cannot be imported is listed with its error.
    """
    if context.invoked_subcommand:
        return
    device = chosen_device(device)
    rows = [_describe(skill, device) for skill in installed_skills().values()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        _show(row)
    if not rows:
        click.echo("no skill is installed")


@command.command("backends")
def backends() -> None:
    """Print a table of all backends: what installs them, their weights, and the licences."""
    click.echo("| skill | backend | install | licence | weights | their licence |")
    click.echo("|---|---|---|---|---|---|")
    for skill, known in BACKENDS.items():
        for name, path in known.items():
            backend = pkgutil.resolve_name(path)()
            extra = f"`[{backend.packages.extra}]`" if backend.packages.extra else ""
            weights = f"`{backend.weights.name}`" if isinstance(backend, HasWeights) else ""
            library, numbers = backend.licence
            row = (f"`{skill}`", f"`{name}`", extra, library, weights, numbers)
            click.echo(f"| {' | '.join(row)} |")


@command.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="SKILL...")
def pull(names: tuple[str, ...]) -> None:
    """Fetch the weights of the SKILLs, and of the skills that these use, ahead of their first use.

    They come from the Hugging Face hub and are kept in its cache; how much there is to fetch is
    told before. HF_ENDPOINT, HF_HOME and HF_TOKEN are heeded. Of skills without which a SKILL does
    less but works, one that cannot be had is told and left out.
    """
    needed = with_used(*names)
    for name in with_used(*names, optional=True):
        if name in needed:
            _fetch(name)
            continue
        try:
            if lacks := readiness(name).packages.lacks():
                raise BadConfiguration(lacks)
            _fetch(name)
        except (BadConfiguration, UnknownSkill) as error:
            click.echo(f"{name}: left out, {error}", err=True)


command.add_command(calibrate.command)


def _fetch(name: str) -> None:
    load_skill(name)
    weights = readiness(name).weights
    if weights is None:
        click.echo(f"{name}: needs no weights that have to be fetched")
        return
    download = weights.download()
    if download.files:
        size = f"{download.bytes / 1e6:,.0f} MB in {len(download.files)} files"
        click.echo(f"{name}: {weights.name}, {size}")
        download.fetch(lambda file: click.echo(f"  checking {file}", err=True))
    if lacks := readiness(name).lacks:
        raise BadConfiguration(f"{weights.name} is not all that {name} needs: {lacks}")
    click.echo(f"{name}: ready")


def _show(row: dict[str, Any]) -> None:
    name = click.style(row["name"], fg="red" if "error" in row else "cyan", bold=True)
    origin = row["package"]
    if "backend" in row:
        origin += f", backend {row['backend']}, {row['licence']}, weights {row['weights_licence']}"
    if row.get("uses"):
        origin += f", uses {joined(row['uses'])}"
    if "device" in row:
        origin += f", on {row['device']}"
    click.echo(f"{name} {click.style(f'({origin})', dim=True)}")
    told = f"cannot be used: {row['error']}" if "error" in row else row["description"]
    click.echo(f"  {plain(told)}")
    if row.get("lacks"):
        click.echo(f"  not on offer: {plain(row['lacks'])}")


def _describe(installed: InstalledSkill, device: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": installed.name, "package": installed.package}
    try:
        loaded = installed.load()
        spec = loaded.spec
        row |= {"description": spec.description, "parameters": spec.parameters}
        ready = readiness(installed.name)
        if ready.licence:
            row["backend"] = ready.backend
            row["licence"], row["weights_licence"] = ready.licence
            row["weights"] = ready.weights.name if ready.weights else None
        row["uses"] = list(loaded.uses)
        row["device"] = device if _has_torch(installed.name) else "cpu"
        row["lacks"] = ready.lacks
    except BadConfiguration as error:
        row["error"] = str(error)
    return row


def _has_torch(name: str) -> bool:
    """Whether anything in a skill knows other devices than the CPU, as nothing but torch does."""
    there = (used for used in with_used(name) if used in installed_skills())
    return any("torch" in readiness(used).packages.modules for used in there)
