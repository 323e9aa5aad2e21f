"""All eleven skills in one worker, on tiny models, in one conversation that passes handles on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from llava_plus.agent.cli import main
from llava_plus.agent.fleet import start_fleet
from llava_plus.agent.loop import Agent, TurnFinished
from llava_plus.model.conversation import Conversation, SkillMessage
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.images import encode_image
from llava_plus.skills.readiness import usable_skills
from PIL import Image, ImageDraw, ImageFont

from .skills.tiny_captioners import save_blip, save_florence2
from .skills.tiny_diffusion import save_editor, save_inpainter, save_painter
from .skills.tiny_embedders import save_clip, save_siglip

CALLS = (
    ("ocr", {"image": "img_1"}),
    ("segment", {"image": "img_1", "boxes": [[0.25, 0.35, 0.75, 0.95]]}),
    ("inpaint", {"image": "img_1", "mask": "mask_1", "prompt": "moss"}),
    ("caption", {"image": "img_2"}),
    ("edit", {"instruction": "make it winter", "image": "img_2"}),
    ("tag", {"image": "img_3"}),
    ("generate", {"prompt": "a red ball"}),
    ("retrieve", {"image": "img_4", "query": "ball", "k": 2}),
    ("describe_regions", {"image": "img_5"}),
    ("detect", {"image": "img_1", "labels": ["face"]}),
    ("adjust", {"image": "img_6", "operation": "grayscale"}),
)


@pytest.fixture
def _weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models of every kind, an index of two pictures, and settings that name them."""
    savers = {
        "caption": save_blip, "describe_regions": save_florence2, "tag": save_siglip,
        "generate": save_painter, "edit": save_editor, "inpaint": save_inpainter,
    }  # fmt: skip
    lines = []
    for skill, save in savers.items():
        save(tmp_path / skill)
        lines += [f"[skills.{skill}]", f'model = "{tmp_path / skill}"']
        if skill in ("generate", "edit", "inpaint"):
            lines += ["steps = 2", "side = 64", "seed = 1"]
        if skill == "describe_regions":
            lines += ["longest = 12"]
    save_clip(tmp_path / "clip")
    (tmp_path / "photos").mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "photos" / f"{colour}.png")
    made = [str(tmp_path / name) for name in ("photos", "index", "clip")]
    assert main(["index", made[0], "--out", made[1], "--model", made[2]]) == 0
    lines += ["[skills.retrieve]", f'index = "{made[1]}"']
    settings = tmp_path / "llava-plus.toml"
    settings.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("LLAVA_PLUS_CONFIG", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def picture() -> Image.Image:
    image = Image.new("RGB", (320, 240), "darkgreen")
    draw = ImageDraw.Draw(image)
    draw.ellipse((100, 100, 220, 220), fill="red")
    font = ImageFont.load_default(size=40)
    draw.text((30, 20), "PLATFORM 3", fill="white", font=font)
    return image


@pytest.mark.asyncio
@pytest.mark.usefixtures("_weights")
async def test_every_skill_works_on_what_others_made(picture: Image.Image) -> None:
    names = tuple(usable_skills())
    assert {name for name, _ in CALLS} <= set(names), "weights that are there put all on offer"
    uses = [
        SkillUse(id=f"call_{number}", name=name, arguments=arguments)
        for number, (name, arguments) in enumerate(CALLS)
    ]
    store = ImageStore()
    ref = store.add(encode_image(picture))
    async with start_fleet([[name for name, _ in CALLS]]) as fleet:
        dispatcher = fleet.dispatcher()
        agent = Agent(
            ScriptedLMM([*uses, "Done."]), dispatcher, max_steps=len(CALLS) + 1, turn_seconds=300
        )
        asked = Conversation(skills=await dispatcher.specs()).ask("Do it all.", [ref])
        *_, event = [event async for event in agent.turn(asked, store)]
        await dispatcher.aclose()
    assert isinstance(event, TurnFinished)
    event.raise_for_error()
    told = {
        message.result.name: message.result
        for message in event.conversation.messages
        if isinstance(message, SkillMessage)
    }
    assert {name: result.error for name, result in told.items() if result.error} == {}
    assert "PLATFORM 3" in told["ocr"].text
    assert told["retrieve"].text == "Found 2 similar pictures."
    assert told["tag"].text.split()[1] in ("tags:", "tag:")
    images = {handle: store.image(ref) for handle, ref in event.conversation.images.items()}
    assert images["img_2"].size == images["img_3"].size == picture.size
    changed = np.asarray(images["img_2"], int) != np.asarray(picture, int)
    ball = changed[110:210, 110:210].any(axis=2)
    assert ball.mean() > 0.9, "the ball is repainted"
    assert not changed[:90].any(), "the rest is as it was"


@pytest.mark.usefixtures("_weights")
def test_the_list_tells_what_each_skill_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skills", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["caption"]["backend"] == "blip"
    assert rows["generate"]["weights_licence"] == "CreativeML OpenRAIL-M"
    assert {name for name, row in rows.items() if row.get("lacks")} == set()
