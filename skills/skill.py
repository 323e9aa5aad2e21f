"""What a skill is: a class with a name, a sentence about it, and a typed `run`."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeGuard, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import core_schema

from .calls import SkillSpec
from .errors import BadConfiguration, BadSkillUse
from .extras import Packages
from .geometry import Mask
from .wording import shorten

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from .demonstration import Demonstration

__all__ = [
    "HANDLE_PATTERNS",
    "Image",
    "ImageArgument",
    "MaskArgument",
    "Skill",
    "SkillOutput",
    "is_handle",
]

HANDLE_PATTERNS = {"image": r"^img_[0-9]{1,4}$", "mask": r"^mask_[0-9]{1,4}$"}


def is_handle(value: Any, kind: Literal["image", "mask"] = "image") -> TypeGuard[str]:
    """Whether an argument is a handle of an image or a mask (`img_1`, `mask_1`), there or not."""
    return isinstance(value, str) and re.fullmatch(HANDLE_PATTERNS[kind], value) is not None


@dataclass(frozen=True)
class _Handle:
    """Pydantic marker: JSON holds a handle (`img_1`), `run` gets what the handle stands for."""

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        def resolve(value: Any, info: core_schema.ValidationInfo) -> Any:
            known = (info.context or {}).get(self.kind, {})
            if not isinstance(value, str):
                raise ValueError(f"{value!r} is not a handle of {_a(self.kind)}")
            if value not in known:
                have = ", ".join(known) or "none"
                raise ValueError(f"there is no {self.kind} {value!r} here; there is: {have}")
            return known[value]

        return core_schema.with_info_plain_validator_function(resolve)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": HANDLE_PATTERNS[self.kind]}


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


if TYPE_CHECKING:
    Image = PillowImage
else:
    Image = Any

ImageArgument = Annotated[Image, _Handle("image")]
"""An image argument: the LMM passes a handle, `run` gets a `PIL.Image.Image` in RGB."""

MaskArgument = Annotated[Mask, _Handle("mask")]
"""A mask argument: the LMM passes a handle, `run` gets a `Mask`."""


class SkillOutput(BaseModel):
    """What `run` returns. Subclass it: fields are the data, `summary` is the finding in words.

    The LMM reads `text()`; the first thing in it should be the count or the gist, because every
    model reads that better than a list.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @abstractmethod
    def summary(self) -> str:
        """One or two sentences that state the finding, counts first."""

    def text(self) -> str:
        """What the LMM reads; the summary unless a subclass has more to say."""
        return self.summary()

    def images(self) -> Iterator[tuple[str, PillowImage]]:
        """The images that were made, each with a short label."""
        yield from ()

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """The masks that were made, each with a short label."""
        yield from ()


class Skill(ABC):
    """Base of every skill. Give `name`, `description` and a typed `run`; load weights in `setup`.

    The spec that the LMM reads is made from the signature of `run`: annotate images as
    `ImageArgument`, masks as `MaskArgument`, places as `Box` or `Point`, and the rest as
    pydantic would. `run` may be called from several threads unless `parallel` is 1.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    parallel: ClassVar[int] = 1
    """How many calls may run at once in one process."""
    packages: ClassVar[Packages] = Packages("", ())
    """What it runs on beside the core of LLaVA-Plus, where no backend says so."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Skills whose backends it cannot work without."""
    may_use: ClassVar[tuple[str, ...]] = ()
    """Skills with which it can do more."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Requests that call for it, in the words of the people who make them."""
    demonstrations: ClassVar[tuple[Demonstration, ...]] = ()
    """Requests with the call and the finding of each; training data and the fake for tests."""

    def setup(self, device: str) -> None:  # noqa: B027 - most skills have nothing to load
        """Load what `run` needs; called before the first call, never at import."""

    def teardown(self) -> None:  # noqa: B027 - most skills have nothing to let go of
        """Let go of what `setup` loaded, when memory is short; `setup` comes before more calls."""

    @property
    def batch(self) -> int:
        """How many calls `run_batch` can take at once."""
        return 1

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> SkillOutput:
        """Do the work. Raise `SkillFailed` with a plain sentence when it cannot be done."""

    def run_batch(self, calls: Sequence[dict[str, Any]]) -> Sequence[SkillOutput]:
        """Do the work of several calls, each given by the arguments of `run`, in their order."""
        return [self.run(**arguments) for arguments in calls]

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The pydantic model of the arguments of `run`."""
        hints = get_type_hints(type(self).run, include_extras=True)
        fields: dict[str, Any] = {}
        for parameter in list(inspect.signature(type(self).run).parameters.values())[1:]:
            if parameter.name not in hints or parameter.kind not in (
                parameter.POSITIONAL_OR_KEYWORD,
                parameter.KEYWORD_ONLY,
            ):
                raise BadConfiguration(
                    f"skill {self.name!r}: argument {parameter.name!r} of run needs a type "
                    "and a name of its own (no *args or **kwargs)"
                )
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (hints[parameter.name], default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
        return create_model(f"{type(self).__name__}Arguments", __config__=config, **fields)

    @cached_property
    def spec(self) -> SkillSpec:
        """What the LMM is told about this skill, made from the signature of `run`."""
        schema = tidy_schema(self.arguments.model_json_schema())
        return SkillSpec(
            name=self.name,
            description=self.description,
            parameters=schema,
            examples=(*self.examples, *(shown.request for shown in self.demonstrations)),
        )

    def call(
        self,
        arguments: dict[str, Any],
        *,
        images: dict[str, PillowImage] | None = None,
        masks: dict[str, Mask] | None = None,
    ) -> SkillOutput:
        """Check the arguments and run: what `check` and `run_checked` raise."""
        return self.run_checked(self.check(arguments, images=images, masks=masks))

    def check(
        self,
        arguments: dict[str, Any],
        *,
        images: dict[str, PillowImage] | None = None,
        masks: dict[str, Mask] | None = None,
    ) -> dict[str, Any]:
        """The arguments of `run`, with images and masks in place of their handles.

        Raises `BadSkillUse` when `arguments` do not fit the spec.
        """
        context = {"image": images or {}, "mask": masks or {}}
        try:
            checked = self.arguments.model_validate(arguments, context=context)
        except ValidationError as error:
            raise BadSkillUse(f"{self.name}: {describe_validation(error)}") from error
        return {name: getattr(checked, name) for name in type(checked).model_fields}

    def run_checked(self, arguments: dict[str, Any]) -> SkillOutput:
        """Run with arguments from `check`. Raises what `run` does, or `TypeError`."""
        output = self.run(**arguments)
        if not isinstance(output, SkillOutput):
            raise TypeError(
                f"run of {self.name!r} returned {type(output).__name__}, not SkillOutput"
            )
        return output


def describe_validation(error: ValidationError) -> str:
    """What is wrong with each value, in one line that a person or a model can act on."""
    parts = []
    for problem in error.errors(include_url=False)[:5]:
        place = ".".join(str(step) for step in problem["loc"]) or "arguments"
        message = problem["msg"].removeprefix("Value error, ")
        # What is wrong may be a hundred thousand letters long, and a model has to read this.
        parts.append(f"{shorten(place, 100)}: {shorten(message, 300)}")
    return "; ".join(parts)


def tidy_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Inline definitions and drop what says nothing to a reader: titles, nulls beside a type.

    Raises `BadConfiguration` for a definition that refers to itself, which has no finite form.
    """
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}

    def walk(node: Any, within: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(item, within) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = str(node["$ref"]).rsplit("/", 1)[-1]
            if name in within or name not in definitions:
                raise BadConfiguration(f"the schema's {node['$ref']!r} cannot be written out")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return walk({**definitions[name], **rest}, (*within, name))
        dropped = {"title", "$defs", "definitions"}
        kept = {key: value for key, value in node.items() if key not in dropped}
        if kept.get("default", ...) is None:
            del kept["default"]
        if "anyOf" in kept:
            options = [option for option in kept["anyOf"] if option != {"type": "null"}]
            rest = {key: value for key, value in kept.items() if key != "anyOf"}
            kept = {**options[0], **rest} if len(options) == 1 else {**rest, "anyOf": options}
        properties = kept.pop("properties", None)
        tidied = {key: walk(value, within) for key, value in kept.items()}
        if properties is not None:
            # Under this key stand names of arguments, which may be `title` or `anyOf` too.
            named = {name: walk(value, within) for name, value in properties.items()}
            tidied = {"type": "object", "properties": named, **tidied}
        return tidied

    return {"type": "object", "properties": {}, **walk(schema, ())}
