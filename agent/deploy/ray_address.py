"""Whether a Ray cluster can be where it is said to be."""

from __future__ import annotations

import socket

from ...skills.errors import BadConfiguration, WorkerUnavailable

__all__ = ["check_reachable"]

_SECONDS = 5.0


def check_reachable(address: str) -> None:
    """Find out at once what Ray would find out in minutes.

    Raises `BadConfiguration` for what is no address, `WorkerUnavailable` where nothing listens.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise BadConfiguration(f"{address!r} is no address of Ray: give HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise WorkerUnavailable(f"there is no Ray cluster at {address}: {error}") from error
