"""Arguments that do not fit, made from the schemas of all skills: a typed error, and no harm."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llava_plus.skills import Mask
from llava_plus.skills.discovery import installed_skills, load_skill
from llava_plus.skills.errors import BadSkillUse
from PIL import Image

from ..serving import png, worker
from .test_worker import upload

SHIPPED = sorted(n for n, skill in installed_skills().items() if skill.package == "llava-plus")
READY = ("adjust", "calculate", "crop", "detect", "draw", "ocr", "plot", "point", "segment", "zoom")
"""Skills that run without weights."""

IMAGES = {"img_1": Image.new("RGB", (40, 30), "green")}
MASKS = {
    "mask_1": Mask.from_array(np.eye(30, 40, dtype=bool)),
    "mask_2": Mask.from_array(np.zeros((30, 40), dtype=bool)),
    "mask_3": Mask.from_array(np.eye(31, 40, dtype=bool)),
}
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**400, math.nan, math.inf, "", "seven", "img_99", "mask_99",
    "w" * 100_001, "\x00", [], [[]], ["a"] * 10_000, [math.nan] * 4, [0.9, 0.9, 0.1, 0.1], {},
    {"odd": 1},
)  # fmt: skip
"""What is put in the place of a value that fits."""


def fitting(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema; handles are those that there are."""
    if "anyOf" in schema:
        return st.one_of([fitting(option) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "string":
            kinds = {"^img_": list(IMAGES), "^mask": list(MASKS)}
            return st.sampled_from(kinds.get(schema.get("pattern", "")[:5], ["2 + 2", "a dog"]))
        case "array" if schema["items"].get("type") == "number" and "maxItems" in schema:
            return st.just([0.1, 0.2, 0.5, 0.6][: schema["maxItems"]])
        case "array":
            return st.lists(fitting(schema["items"]), min_size=1, max_size=2)
        case "object":
            return st.fixed_dictionaries(
                {name: fitting(part) for name, part in schema["properties"].items()}
            )
        case kind:
            return st.just({"integer": 2, "number": 0.5}[kind])


def ways(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a value."""
    inner = dict(enumerate(value)) if isinstance(value, list) else value
    for key, part in inner.items() if isinstance(inner, dict) else ():
        yield (*path, key)
        yield from ways(part, (*path, key))


@st.composite
def odd_arguments(draw: st.DrawFn, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of which one value, or one name, is not what it should be."""
    required = set(schema.get("required", ()))
    parts = {name: fitting(part) for name, part in schema["properties"].items()}
    arguments = draw(
        st.fixed_dictionaries(
            {name: part for name, part in parts.items() if name in required},
            optional={name: part for name, part in parts.items() if name not in required},
        )
    )
    changed: dict[str, Any] = copy.deepcopy(arguments)
    odd = draw(st.sampled_from(ODD))
    paths = list(ways(changed))
    if not paths or draw(st.integers(0, 9)) == 0:
        return {**changed, "oddly_named": odd}
    *path, last = draw(st.sampled_from(paths))
    place: Any = changed
    for key in path:
        place = place[key]
    if not path and draw(st.integers(0, 4)) == 0:
        del place[last]
    else:
        place[last] = odd
    return changed


def told_wrong(schema: Mapping[str, Any], arguments: dict[str, Any]) -> bool:
    """Whether the schema that the LMM reads forbids the arguments.

    What may be left out may be null too, and True may stand for 1.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    closed = {**schema, "additionalProperties": False}
    return "True" not in str(given) and not jsonschema.Draft202012Validator(closed).is_valid(given)


QUIET = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", SHIPPED)
@given(data=st.data())
@settings(QUIET, max_examples=60)
def test_what_the_schema_forbids_is_refused(name: str, data: st.DataObject) -> None:
    skill = load_skill(name)
    arguments = data.draw(odd_arguments(skill.spec.parameters))
    if told_wrong(skill.spec.parameters, arguments):
        with pytest.raises(BadSkillUse, match=rf"^{name}: \w+"):
            skill.check(arguments, images=IMAGES, masks=MASKS)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with worker(*map(load_skill, READY)) as url:
        yield url


@pytest.mark.parametrize("name", READY)
@given(data=st.data())
@settings(QUIET, max_examples=25)
def test_a_worker_answers_odd_arguments_and_lives_on(
    url: str, name: str, data: st.DataObject
) -> None:
    arguments = data.draw(odd_arguments(load_skill(name).spec.parameters))
    masks = {handle: mask.model_dump() for handle, mask in MASKS.items()}
    with httpx.Client(base_url=url, timeout=60) as client:
        sha256 = upload(client, png("green", 40, 30))
        body = {"id": "a", "arguments": arguments, "images": {"img_1": sha256}, "masks": masks}
        response = client.post(f"/v1/skills/{name}", content=json.dumps(body))
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            error = response.json()["error"]
            assert error["kind"] in ("BadInput", "BadSkillUse", "SkillFailed"), error
            assert len(error["message"]) < 2_000, "an error does not repeat what was sent"
        assert client.get("/readyz").status_code == 200
