"""Waiting until what was deployed on Ray runs; what it waits for is told, and bounded if wished."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ...skills.errors import WorkerUnavailable
from .ray_settings import GroupSettings

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview

__all__ = ["wait_until_running"]

_EVERY = 0.2
_FIRST, _AGAIN = 10.0, 30.0
"""Seconds until it is told what is waited for, and from then on."""


def wait_until_running(
    application: str,
    groups: Mapping[str, GroupSettings],
    *,
    seconds: float | None,
    tell: Callable[[str], object],
) -> None:
    """Wait until all deployments of an application run, for at most so many seconds.

    Raises `WorkerUnavailable` when one of them failed, or does not run by then.
    """
    from ray import serve

    begun = time.monotonic()
    next_told = begun + _FIRST
    while (app := serve.status().applications[application]).status != "RUNNING":
        now = time.monotonic()
        if app.status == "DEPLOY_FAILED":
            raise WorkerUnavailable(f"deploying failed: {app.message}")
        if seconds is not None and now - begun >= seconds:
            raise WorkerUnavailable(
                f"what was deployed does not run after {seconds:g} s; {_waiting(app, groups)}"
            )
        if now >= next_told:
            tell(_waiting(app, groups))
            next_told = now + _AGAIN
        time.sleep(_EVERY)


def _waiting(app: ApplicationStatusOverview, groups: Mapping[str, GroupSettings]) -> str:
    """Which deployments do not run yet, what their replicas ask for, and what is free."""
    late = [
        _late(name, deployment, groups.get(name))
        for name, deployment in app.deployments.items()
        if deployment.status != "HEALTHY"
    ]
    return f"waiting for {', '.join(late) or 'Serve'}; free in the cluster: {_free()}"


def _late(name: str, deployment: DeploymentStatusOverview, group: GroupSettings | None) -> str:
    states = deployment.replica_states.items()
    counts = ", ".join(f"{count} {state.lower()}" for state, count in states) or "no replica yet"
    asked = f"each asks for {group.cpus:g} CPU, {group.gpus:g} GPU" if group else "asks for nothing"
    return f"{name} ({counts}; {asked})"


def _free() -> str:
    import ray

    # What is all taken is not among them.
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return f"{free.get('CPU', 0):g} CPU, {free.get('GPU', 0):g} GPU"
