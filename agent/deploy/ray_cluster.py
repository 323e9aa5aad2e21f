"""Deploying skills on a Ray cluster, one that is there or one begun here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...skills.errors import WorkerUnavailable
from ...skills.worker import listen
from .ray import application
from .ray_address import check_reachable
from .ray_settings import RaySettings
from .ray_waiting import wait_until_running

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["APPLICATION", "Deployed", "deployed"]

APPLICATION = "llava-plus"
"""The name of the application; deploying it again updates what runs."""

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True)
class Deployed:
    """Where the skills answer as one worker, and the cluster that another run may join."""

    url: str
    cluster: str


@contextmanager
def deployed(
    settings: RaySettings,
    *,
    address: str | None,
    host: str,
    port: int,
    seconds: float | None = None,
    tell: Callable[[str], object] = lambda waiting: None,
) -> Iterator[Deployed]:
    """Deploy skills, and wait until they are set up, for at most so many seconds.

    While that takes long, `tell` hears what is waited for and what the cluster has free.

    Without an `address` a cluster is begun on this machine, which ends with the block. On one
    that is there, the skills are updated where they run already, and stay; `host` and `port`
    hold only where Serve has not been started. Nothing is told to Ray's makers, and a cluster
    begun here has no dashboard. Raises `BadConfiguration`, or `WorkerUnavailable` with what Serve
    says or what was waited for in vain; an update that was begun then goes on.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    app = application(settings.model_dump())  # what is wrong shows before Ray starts
    import ray

    if address is None:
        listen(host, port).close()  # Ray would try again and again
    else:
        check_reachable(address)
    dashboard = None if address else False
    try:
        ray.init(
            address or "local",
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        _deploy(app, host, port)
        wait_until_running(APPLICATION, settings.groups, seconds=seconds, tell=tell)
        yield Deployed(_url(), ray.get_runtime_context().gcs_address)
    except ConnectionError as error:
        told = f"there is no Ray cluster at {address}" if address else "Ray does not start"
        raise WorkerUnavailable(f"{told}: {error}") from error
    finally:
        ray.shutdown()


def _deploy(app: Application, host: str, port: int) -> None:
    """Begin to deploy the application, or to update it."""
    from ray import serve

    serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
    target = serve.RunTarget(app, name=APPLICATION, route_prefix="/")
    try:
        serve.run_many([target], wait_for_applications_running=False)
    except RuntimeError as error:  # by which Serve tells why
        raise WorkerUnavailable(str(error)) from error


def _url() -> str:
    """Where Serve answers by now, which on a cluster that was there others have settled."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client  # raises otherwise
    client.wait_for_proxies_serving()
    options = client.http_config
    host = _EVERY_ADDRESS.get(options.host, options.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{options.port}"
