"""For tests of applications: a skill that needs no weights, and a real worker that serves it.

    with serving(FakeSkill(CountPeople())) as url:
        dispatcher = HttpDispatcher([url])

`llava_plus.agent.rehearsal` takes a whole turn in this way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from .demonstration import Demonstration, check_demonstrations, checked_call, middle_of
from .errors import BadConfiguration
from .geometry import Mask
from .skill import HANDLE_PATTERNS, Skill, SkillOutput

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FakeOutput", "FakeSkill", "serving", "serving_app"]


class FakeOutput(SkillOutput):
    """The finding of a demonstration; the data hold nothing else."""

    finding: str
    pictures: tuple[Any, ...] = Field(default=(), exclude=True)
    areas: tuple[Mask, ...] = Field(default=(), exclude=True)

    def summary(self) -> str:
        """The first line of the finding."""
        return self.finding.split("\n")[0]

    def text(self) -> str:
        """The whole finding."""
        return self.finding

    def images(self) -> Iterator[tuple[str, Image]]:
        """A copy of the image that was given for each that the demonstration makes."""
        yield from (("", picture) for picture in self.pictures)

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """A mask of the middle for each that the demonstration makes."""
        yield from (("", area) for area in self.areas)


class FakeSkill(Skill):
    """A skill's double without its weights: name, spec and checks are the real ones.

    `run` answers with the finding of the demonstration whose arguments agree with the call in most
    places, images and masks aside; of several with the first. Raises `BadConfiguration` when
    there are no demonstrations or one does not fit.
    """

    def __init__(self, skill: Skill) -> None:
        if not skill.demonstrations:
            raise BadConfiguration(f"the skill {skill.name!r} has no demonstrations to answer from")
        check_demonstrations(skill)
        self._real = skill
        # On the instance: a real skill has these on its class.
        for name in ("name", "description", "parallel", "examples", "demonstrations"):
            vars(self)[name] = getattr(skill, name)
        self._known = [(checked_call(skill, shown), shown) for shown in skill.demonstrations]

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The real skill's."""
        return self._real.arguments

    def run(self, **arguments: Any) -> FakeOutput:
        """Answer as the nearest demonstration says."""
        shown = self._nearest(arguments)
        image = _image_in(arguments)
        return FakeOutput(
            finding=shown.finding,
            pictures=tuple(image.copy() for kind in shown.makes if kind == "image"),
            areas=tuple(middle_of(image) for kind in shown.makes if kind == "mask"),
        )

    def _nearest(self, arguments: Mapping[str, Any]) -> Demonstration:
        properties = self.spec.parameters["properties"]
        compared = [name for name in properties if not _holds_handle(properties[name])]

        def agreement(known: tuple[Mapping[str, Any], Demonstration]) -> int:
            own, _ = known
            return sum(own[name] == arguments[name] for name in compared)

        _, shown = max(self._known, key=agreement)
        return shown


def _holds_handle(schema: Mapping[str, Any]) -> bool:
    return any(pattern in str(schema) for pattern in HANDLE_PATTERNS.values())


def _image_in(arguments: Mapping[str, Any]) -> Image:
    """The first image among the arguments; a grey one where there is none."""
    from PIL import Image

    for value in arguments.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Image.Image):
                return one
    return Image.new("RGB", (256, 256), "grey")


@contextmanager
def serving(*skills: Skill) -> Iterator[str]:
    """The URL of a real worker for `skills`, which answers over HTTP until the block ends."""
    from .worker import create_app

    with serving_app(create_app(skills)) as url:
        yield url


@contextmanager
def serving_app(app: Any) -> Iterator[str]:
    """The URL of any ASGI app, served in a thread with the settings of a worker."""
    import uvicorn

    from .worker import listen, server_config

    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
