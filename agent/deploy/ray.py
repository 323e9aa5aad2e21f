"""Skills as an application of Ray Serve: to a client it is one worker.

`application` is what a Serve config file, and so a RayService of KubeRay, names as its
`import_path`: `llava_plus.agent.deploy.ray:application`. One replica speaks the worker protocol
and holds the images; it sends each call with its pixels to a replica of the skill's group. So
whichever replica gets a call, it has what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...skills.discovery import load_skill
from ...skills.errors import BadConfiguration
from ...skills.extras import needing
from ...skills.wire import SECRET_VARIABLE
from ...skills.worker import run_spans, worker_app
from .ray_group import SkillGroup
from .ray_runner import RayRunner
from .ray_settings import INGRESS, GroupSettings, RaySettings, settings_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from ray.serve import Application, Deployment
    from ray.serve.handle import DeploymentHandle

__all__ = ["Ingress", "application"]

_SURGE = 25
"""Percent of replicas that an update may have too many, at least one: new before old."""

_LAST_SECONDS = 150.0
"""How long a replica that is replaced may take for the calls it has; a turn takes up to 120."""

_MANY_REQUESTS = 1000


class Ingress:
    """The worker's app, with its skills in other deployments. Serve builds the app last."""

    def __init__(self, settings: RaySettings, handles: Mapping[str, DeploymentHandle[Any]]) -> None:
        self._secret = os.environ.get(SECRET_VARIABLE)
        if settings.secret_needed and not self._secret:
            raise BadConfiguration(f"{SECRET_VARIABLE} is not set where the ingress runs")
        self._runner = RayRunner(settings.groups, handles)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return worker_app(self._runner, secret=self._secret, spans=run_spans())


def application(args: Mapping[str, Any]) -> Application:
    """The application that serves skills; `args` are those of `RaySettings`.

    Raises `BadConfiguration` or `UnknownSkill`.
    """
    with needing("ray", "deploying on Ray"):
        from ray import serve
    settings = settings_of(args).filled()
    handles = {name: _group(name, group) for name, group in settings.groups.items()}
    ingress: Deployment = serve.deployment(  # type: ignore[assignment]
        serve.ingress()(Ingress),
        name=INGRESS,
        num_replicas=1,
        max_ongoing_requests=_MANY_REQUESTS,
        max_surge_percent=_SURGE,
        graceful_shutdown_timeout_s=_LAST_SECONDS,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(settings, handles)


def _group(name: str, group: GroupSettings) -> Application:
    from ray import serve

    at_once = sum(load_skill(skill).parallel for skill in group.skills) + group.queue
    deployment: Deployment = serve.deployment(  # type: ignore[assignment]
        SkillGroup,
        name=name,
        max_ongoing_requests=at_once,
        max_queued_requests=group.queue,
        # A GPU more than there are replicas is not to be had: there an old one goes first.
        max_surge_percent=0 if group.gpus else _SURGE,
        graceful_shutdown_timeout_s=_LAST_SECONDS,
        ray_actor_options={"num_cpus": group.cpus, "num_gpus": group.gpus},
        **_scale(group),
    )
    return deployment.bind(group, at_once)


def _scale(group: GroupSettings) -> dict[str, Any]:
    if group.most == group.replicas:
        return {"num_replicas": group.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": group.replicas,
            "max_replicas": group.most,
            "target_ongoing_requests": group.target,
        }
    }
