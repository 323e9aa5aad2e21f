"""Conversion of LLaVA's checkpoints: every layout computes the same as before, and goes back."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner
from llava_plus.agent.commands.convert import command
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.conversion.chat import STYLES
from llava_plus.model.conversion.to_llava import convert_to_llava
from llava_plus.model.conversion.to_transformers import Options, convert_to_transformers
from llava_plus.model.lmm import Replied
from llava_plus.model.loading import load_model, load_processor
from llava_plus.model.local import LocalLMM
from llava_plus.model.rendering import ChatRenderer
from llava_plus.skills import ImageStore, SkillResult, SkillSpec, SkillUse
from llava_plus.skills.errors import BadConfiguration, BadInput
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionModel, LlamaForCausalLM, LlavaForConditionalGeneration

from .llava_checkpoints import (
    HIDDEN,
    IMAGE,
    TEXTS,
    Original,
    llama,
    projector,
    save_clip,
    save_llama,
    tokenizer,
)

MARKS = ("<im_patch>", "<im_start>", "<im_end>")


class Towers(NamedTuple):
    """A CLIP for 28 pixels with its text model, and a vision tower alone for 42."""

    small: CLIPVisionModel
    large: CLIPVisionModel
    folder: Path

    def path(self, tower: CLIPVisionModel) -> str:
        return str(self.folder / f"clip{tower.config.image_size}")


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Towers:
    folder = tmp_path_factory.mktemp("towers")
    small = save_clip(folder / "clip28", 28, whole=True)
    return Towers(small, save_clip(folder / "clip42", 42), folder)


class Case(NamedTuple):
    """What is converted, with which options, and what it has to compute."""

    source: Path
    options: Options
    truth: Original


def linear(towers: Towers, *more: str, **settings: Any) -> Original:
    """A LLaVA v1: one matrix, 28 pixels."""
    words = tokenizer(*more)
    return Original(llama(len(words)), towers.small, projector(matrices=1), settings, words)


def mlp(towers: Towers, **settings: Any) -> Original:
    """A LLaVA v1.5: two matrices, 42 pixels."""
    told = {"mm_projector_type": "mlp2x_gelu", "mm_use_im_patch_token": False, **settings}
    words = tokenizer()
    return Original(llama(len(words)), towers.large, projector(matrices=2), told, words)


def options(towers: Towers, truth: Original, **more: Any) -> Options:
    return Options(vision_tower=towers.path(truth.tower), **more)


def llava_v1(towers: Towers, folder: Path) -> Case:
    """Whole, as the script of LLaVA v1 saves it; `inv_freq` is a constant of old."""
    truth = linear(towers)
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    source = truth.save(folder / "llava", truth.state | old)
    return Case(source, options(towers, truth, chat="v1"), truth)


def llava_v15(towers: Towers, folder: Path) -> Case:
    truth = mlp(towers, image_aspect_ratio="pad")
    source = truth.save(folder / "llava", truth.state, safe=True)
    return Case(source, options(towers, truth), truth)


def llava_plus_v0(towers: Towers, folder: Path) -> Case:
    """A vocabulary of one more, the padding."""
    truth = linear(towers, "<pad>", mm_use_im_patch_token=False)
    source = truth.save(folder / "llava", truth.state)
    return Case(source, options(towers, truth, chat="plus-v0"), truth)


def llava_plus_v13(towers: Towers, folder: Path) -> Case:
    truth = linear(towers, mm_use_im_patch_token=False)
    source = truth.save(folder / "llava", truth.state, safe=True)
    return Case(source, options(towers, truth, chat="plus-v1", pad_vocabulary=64), truth)


def tuned_tower(towers: Towers, folder: Path) -> Case:
    """With a tower that is not the one of the folder that is named."""
    truth = mlp(towers)
    truth.tower = save_clip(folder / "tuned", 42, seed=7)
    source = truth.save(folder / "llava", truth.state | truth.tower_state)
    return Case(source, options(towers, truth), truth)


def other_features(towers: Towers, folder: Path) -> Case:
    """Another layer of the tower, its first token included, and a single matrix in a list."""
    truth = linear(
        towers,
        mm_vision_select_layer=-1,
        mm_vision_select_feature="cls_patch",
        mm_projector_type="mlp1x_gelu",
    )
    truth.projector = torch.nn.Sequential(truth.projector)
    source = truth.save(folder / "llava", truth.state)
    return Case(source, options(towers, truth, chat="v1"), truth)


def delta(towers: Towers, folder: Path) -> Case:
    """A LLaVA v0: words for the image that its base lacks, and everything as a difference."""
    truth = linear(towers, *MARKS, mm_use_im_start_end=True)
    base = llama(400, seed=3)
    save_llama(folder / "base", base, tokenizer())
    difference = truth.state
    for name, value in base.state_dict().items():
        difference[name] = difference[name].clone()
        difference[name][: len(value)] -= value
    source = truth.save(folder / "delta", difference, safe=True)
    return Case(source, options(towers, truth, chat="v0", base=str(folder / "base")), truth)


def lora(towers: Towers, folder: Path) -> Case:
    """LLaVA-1.5 with LoRA: factors, the projector beside them, and a language model."""
    truth = mlp(towers)
    save_llama(folder / "base", truth.language, truth.words)
    source = truth.save_settings(folder / "lora")
    adapted = ("self_attn.q_proj", "mlp.down_proj")
    factors = {}
    for layer, block in enumerate(truth.language.model.layers):
        for name in adapted:
            matrix = block.get_submodule(name)
            a, b = torch.randn(4, matrix.in_features), torch.randn(matrix.out_features, 4)
            matrix.weight.data += 8 / 4 * b @ a
            prefix = f"base_model.model.model.layers.{layer}.{name}"
            factors |= {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    torch.save(factors, source / "adapter_model.bin")
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "vicuna"}
    (source / "adapter_config.json").write_text(json.dumps(told))
    beside = {f"base_model.model.{name}": value for name, value in truth.projector_state.items()}
    torch.save(beside, source / "non_lora_trainables.bin")
    return Case(source, options(towers, truth, base=str(folder / "base")), truth)


def projector_alone(towers: Towers, folder: Path) -> Case:
    """Stage 1 of LLaVA-1.5: the projector in a folder, for a language model."""
    truth = mlp(towers)
    save_llama(folder / "base", truth.language, truth.words)
    source = truth.save_settings(folder / "projector")
    torch.save(truth.projector_state, source / "mm_projector.bin")
    return Case(source, options(towers, truth, base=str(folder / "base")), truth)


def projector_file(towers: Towers, folder: Path) -> Case:
    """A projector of before LLaVA 1.0: one file, with vectors for the words around an image."""
    truth = linear(towers, "<im_start>", "<im_end>", mm_use_im_start_end=True)
    base = llama(400, seed=0)
    save_llama(folder / "base", base, tokenizer())
    words = truth.language.model.embed_tokens.weight.data
    words[:400] = base.model.embed_tokens.weight.data
    head = base.lm_head.weight.data
    mean = head.mean(dim=0, keepdim=True)
    truth.language.lm_head.weight.data = torch.cat([head, mean, mean])
    for mine, theirs in zip(truth.language.model.layers, base.model.layers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    truth.language.model.norm.load_state_dict(base.model.norm.state_dict())
    beside = {"model.embed_tokens.weight": words[400:].clone()}
    torch.save(truth.projector_state | beside, folder / "projector.bin")
    made = options(towers, truth, chat="v1", base=str(folder / "base"))
    return Case(folder / "projector.bin", made, truth)


LAYOUTS: dict[str, Callable[[Towers, Path], Case]] = {
    make.__name__: make
    for make in (
        llava_v1, llava_v15, llava_plus_v0, llava_plus_v13, tuned_tower, other_features, delta,
        lora, projector_alone, projector_file,
    )
}  # fmt: skip


@torch.no_grad()
def logits(folder: Path, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
    """What the converted model computes where the original has `ids`."""
    model, _ = load_model(str(folder), device="cpu", dtype="float32")
    config: Any = model.config
    image = [config.image_token_id] * config.image_seq_length
    spread = [token for i in ids for token in (image if i == IMAGE else [i])]
    return model(input_ids=torch.tensor([spread]), pixel_values=pixels).logits[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_computes_the_same_and_goes_back(
    towers: Towers, tmp_path: Path, layout: str
) -> None:
    source, chosen, truth = LAYOUTS[layout](towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    side = truth.tower.config.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    last = truth.language.config.vocab_size - 1
    ids = [1, 300, IMAGE, 350, last, IMAGE, 301]
    found = logits(tmp_path / "out", ids, pixels)
    expected = truth.logits(ids, pixels)
    torch.testing.assert_close(found[:, : last + 1], expected, atol=1e-5, rtol=0)

    tower_inside = convert_to_llava(tmp_path / "out", tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    own = truth.state | (truth.tower_state if layout == "tuned_tower" else {})
    assert tower_inside == (layout == "tuned_tower")
    assert set(back) == set(own)
    merged = layout in ("delta", "lora")  # sums of numbers that were rounded before
    for name, value in own.items():
        torch.testing.assert_close(back[name], value, rtol=0, atol=1e-6 if merged else 0)


def test_what_went_back_can_be_converted_again(towers: Towers, tmp_path: Path) -> None:
    source, chosen, truth = delta(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "once", chosen)
    convert_to_llava(tmp_path / "once", tmp_path / "back")
    again = options(towers, truth, chat="v0")
    convert_to_transformers(tmp_path / "back", tmp_path / "twice", again)
    once, twice = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "twice"))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert load_processor(str(tmp_path / "twice")).tokenizer.get_vocab()["<im_end>"] == 402


def test_what_was_trained_after_conversion_goes_back(towers: Towers, tmp_path: Path) -> None:
    """A second matrix that is no identity any more, and a tower that was tuned, are not lost."""
    source, chosen, truth = llava_v1(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.linear_2.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) / 10
        for parameter in model.model.vision_tower.parameters():
            parameter *= 1.01
    load_processor(str(tmp_path / "out")).save_pretrained(tmp_path / "trained")
    model.save_pretrained(tmp_path / "trained")
    assert convert_to_llava(tmp_path / "trained", tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    truth.projector.load_state_dict(
        {name: back[f"model.mm_projector.{name}"] for name in ("weight", "bias")}
    )
    prefix = "model.vision_tower.vision_tower.vision_model."
    truth.tower = save_clip(tmp_path / "tuned", 28)
    truth.tower.load_state_dict({n.removeprefix(prefix): v for n, v in back.items() if prefix in n})
    pixels = torch.randn(1, 3, 28, 28, generator=generator)
    found = logits(tmp_path / "trained", [1, IMAGE, 300], pixels)
    torch.testing.assert_close(
        found[:, :400], truth.logits([1, IMAGE, 300], pixels), atol=1e-4, rtol=0
    )


def test_a_model_that_never_was_a_llava_goes_there(towers: Towers, tmp_path: Path) -> None:
    source, chosen, truth = llava_v15(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    config = tmp_path / "out" / "config.json"
    told = json.loads(config.read_text())
    del told["llava_origin"]
    config.write_text(json.dumps(told))
    with pytest.raises(BadConfiguration, match="--vision-tower"):
        convert_to_llava(tmp_path / "out", tmp_path / "back")
    assert convert_to_llava(tmp_path / "out", tmp_path / "back", vision_tower="openai/clip")
    settings = json.loads((tmp_path / "back" / "config.json").read_text())
    assert settings["mm_projector_type"] == "mlp2x_gelu"
    assert settings["image_aspect_ratio"] == "pad"
    convert_to_transformers(tmp_path / "back", tmp_path / "again", options(towers, truth))
    again = load_file(tmp_path / "again" / "model.safetensors")
    once = load_file(tmp_path / "out" / "model.safetensors")
    words = "language_model.model.embed_tokens.weight"
    assert all(torch.equal(again[name][:401], once[name][:401]) for name in once)
    assert again[words].shape[0] == 401, "the word for an image was among them"


def test_weights_have_the_names_of_published_repositories(towers: Towers, tmp_path: Path) -> None:
    """Other engines, vLLM for one, take them from the file as they are."""
    source, chosen, _ = llava_v15(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert {".".join(name.split(".")[:2]) for name in names} == {
        "language_model.lm_head",
        "language_model.model",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
        "vision_tower.vision_model",
    }


def test_new_rows_are_the_mean_of_the_old(towers: Towers, tmp_path: Path) -> None:
    source, chosen, truth = llava_plus_v13(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    for name, old in (
        ("language_model.model.embed_tokens.weight", truth.language.model.embed_tokens.weight),
        ("language_model.lm_head.weight", truth.language.lm_head.weight),
    ):
        assert weights[name].shape == (448, HIDDEN)
        torch.testing.assert_close(weights[name][400:], old.mean(dim=0).expand(48, HIDDEN))
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert settings["suppress_tokens"] == [400], "the word for an image is not to be written"
    assert settings["eos_token_id"] == 2
    assert (settings["temperature"], settings["top_p"]) == (0.2, 0.7)


BROKEN: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "unknown": (
        lambda s: s.update({"model.mm_projector.4.weight": torch.ones(2)}),
        r"unknown: model\.mm_projector\.4\.weight",
    ),
    "missing": (
        lambda s: (s.pop("model.layers.1.mlp.up_proj.weight"), s.pop("model.mm_projector.2.bias")),
        r"missing: model\.layers\.1\.mlp\.up_proj\.weight, model\.mm_projector\.2\.bias",
    ),
    "without words": (
        lambda s: s.pop("model.embed_tokens.weight"),
        r"missing: model\.embed_tokens\.weight",
    ),
    "of another shape": (
        lambda s: s.update({"model.mm_projector.0.bias": torch.ones(31)}),
        r"of another shape: model\.mm_projector\.0\.bias",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_weights_that_do_not_belong_are_named(towers: Towers, tmp_path: Path, kind: str) -> None:
    truth = mlp(towers)
    state = truth.state
    breaking, told = BROKEN[kind]
    breaking(state)
    source = truth.save(tmp_path / "llava", state)
    with pytest.raises(BadConfiguration, match=told):
        convert_to_transformers(source, tmp_path / "out", options(towers, truth))
    assert [path.name for path in tmp_path.iterdir()] == ["llava"], "nothing is left behind"


def test_what_a_person_has_to_tell_is_asked_for(towers: Towers, tmp_path: Path) -> None:
    lone = linear(towers)
    whole = lone.save(tmp_path / "whole", lone.state)
    tower = towers.path(towers.small)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    asked = {
        "--vision-tower": (whole, Options(chat="v1")),
        "--chat": (whole, Options(vision_tower=tower)),
        "give .* with --base": (delta(towers, tmp_path / "a").source, Options(chat="v0")),
        r"--base \(it was trained on 'vicuna'\)": (lora(towers, tmp_path / "b").source, Options()),
        "not a delta: leave --base out": (
            whole, Options(chat="v1", base=str(tmp_path / "a" / "base"), vision_tower=tower),
        ),
    }  # fmt: skip
    for words, (source, chosen) in asked.items():
        with pytest.raises(BadConfiguration, match=words):
            convert_to_transformers(source, tmp_path / "out", chosen)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mm_projector_type", "mlp3x_gelu"),
        ("image_aspect_ratio", "anyres"),
        ("mm_patch_merge_type", "spatial_unpad"),
        ("model_type", "llava_mpt"),
        ("mm_vision_tower", None),
    ],
)
def test_other_models_are_refused_by_name(
    towers: Towers, tmp_path: Path, setting: str, value: str | None
) -> None:
    truth = mlp(towers, **{setting: value})
    source = truth.save(tmp_path / "llava", truth.state)
    with pytest.raises(BadConfiguration, match=value or setting):
        convert_to_transformers(source, tmp_path / "out", options(towers, truth))


def test_an_index_cannot_name_files_elsewhere(towers: Towers, tmp_path: Path) -> None:
    source, chosen, _ = llava_v1(towers, tmp_path)
    (tmp_path / "elsewhere.bin").write_bytes(
        (source / "pytorch_model-00001-of-00002.bin").read_bytes()
    )
    index = source / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace("pytorch_model-00001-of-00002", "../elsewhere"))
    with pytest.raises(BadConfiguration, match=r"'\.\./elsewhere\.bin', which is outside"):
        convert_to_transformers(source, tmp_path / "out", chosen)


class Command:
    """Pickled, it runs a command when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def test_code_in_a_file_of_weights_is_not_run(towers: Towers, tmp_path: Path) -> None:
    source, chosen, _ = llava_v1(towers, tmp_path)
    torch.save({"a": Command(tmp_path / "ran")}, source / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(BadConfiguration, match="cannot be read as weights alone"):
        convert_to_transformers(source, tmp_path / "out", chosen)
    assert not (tmp_path / "ran").exists()
    (source / "pytorch_model-00001-of-00002.bin").write_bytes(pickle.dumps([1]))
    with pytest.raises(BadConfiguration, match=r"pytorch_model-00001-of-00002\.bin cannot be read"):
        convert_to_transformers(source, tmp_path / "out", chosen)


@pytest.mark.parametrize("layout", ["llava_v1", "lora"])
def test_files_as_pytorch_wrote_them_before_1_6_are_read(
    towers: Towers, tmp_path: Path, layout: str
) -> None:
    source, chosen, _ = LAYOUTS[layout](towers, tmp_path)
    convert_to_transformers(source, tmp_path / "new", chosen)
    for path in source.glob("*.bin"):
        torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    convert_to_transformers(source, tmp_path / "old", chosen)
    new, old = (load_file(tmp_path / name / "model.safetensors") for name in ("new", "old"))
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)
    whole = path.read_bytes()
    for length in (100, 200, 400, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadConfiguration, match="cannot be read as weights alone"):
            convert_to_transformers(source, tmp_path / "cut", chosen)


KILLED = """
import os, signal, sys
from pathlib import Path
from llava_plus.model.conversion.to_transformers import Options, convert_to_transformers

def anonymous():
    (line,) = [x for x in open("/proc/self/status") if x.startswith("RssAnon")]
    return 1024 * int(line.split()[1])

source, out, tower = sys.argv[1:]
most = base = 0
def report(done, total):
    global base, most
    held = anonymous()
    base = base or held
    most = max(most, held - base)
    if done == total - 1:
        print(most, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
chosen = Options(vision_tower=tower, chat="v1", shard_size="30MB")
convert_to_transformers(Path(source), Path(out), chosen, report)
"""
"""Says how much memory it held that is no file's beyond the first tensor, and dies."""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux tells it")
def test_a_killed_conversion_leaves_no_model_and_held_one_shard(
    towers: Towers, tmp_path: Path
) -> None:
    truth = linear(towers)
    config = truth.language.config
    config.num_hidden_layers, config.intermediate_size = 12, 32 * 1024
    truth.language = LlamaForCausalLM(config).eval()
    source = truth.save(tmp_path / "llava", truth.state)
    out = tmp_path / "out"
    arguments = [str(source), str(out), towers.path(truth.tower)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], check=False, stdout=subprocess.PIPE
    )
    assert killed.returncode == -9
    assert sum(path.stat().st_size for path in source.glob("*.bin")) > 150e6
    assert 20e6 < int(killed.stdout) < 65e6

    assert not out.exists()
    assert len(list((tmp_path / ".out.part").glob("*.safetensors"))) > 4, "it was well under way"
    chosen = options(towers, truth, chat="v1", shard_size="30MB")
    convert_to_transformers(source, out, chosen)
    assert not (tmp_path / ".out.part").exists()
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    found = logits(out, [1, IMAGE], pixels)
    torch.testing.assert_close(found[:, :400], truth.logits([1, IMAGE], pixels), atol=1e-5, rtol=0)
    with pytest.raises(BadInput, match="is there already"):
        convert_to_transformers(source, out, chosen)


def photo() -> Image.Image:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(0, 256, (50, 90, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(numbers.numpy())


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def test_images_are_padded_as_llava_pads_them(towers: Towers, tmp_path: Path) -> None:
    source, chosen, _ = llava_v15(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    processor = load_processor(str(tmp_path / "out"))
    assert processor(text="<image>", images=photo())["input_ids"][0].count(400) == 9
    square = Image.new("RGB", (90, 90), (122, 116, 104))
    square.paste(photo(), (0, 20))
    own = load_processor(str(tmp_path / "out")).image_processor(
        square, do_pad=False, return_tensors="pt"
    )
    found = processor.image_processor(photo(), return_tensors="pt")
    assert found["pixel_values"].shape == (1, 3, 42, 42)
    torch.testing.assert_close(found["pixel_values"], own["pixel_values"])


DETECT = SkillSpec(
    name="detect",
    description="Find things.",
    parameters={"type": "object", "properties": {"labels": {"type": "string"}}},
)
SYSTEM = (
    "A chat between a curious {0} and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the {0}'s questions."
)
SPOKEN = {
    "v0": (
        SYSTEM.format("human") + "\n\n### Human: <image>\nimg_1\nWhere?\n### Assistant: There.\n"
        "### Human: And here?\n### Assistant:"
    ),
    "v1": (
        SYSTEM.format("user") + " USER: <image>\nimg_1\nWhere? ASSISTANT: There.</s>"
        "USER: And here? ASSISTANT:"
    ),
}


@pytest.mark.parametrize("legacy", [False, None], ids=["told", "untold"])
@pytest.mark.parametrize("style", SPOKEN)
def test_a_chat_has_the_tokens_that_llava_makes_of_it(
    towers: Towers, tmp_path: Path, style: str, legacy: bool | None
) -> None:
    """LLaVA makes tokens of what stands before and behind an image on its own."""
    truth = linear(towers)
    truth.words = tokenizer(legacy=legacy)
    source = truth.save(tmp_path / "llava", truth.state)
    convert_to_transformers(source, tmp_path / "out", options(towers, truth, chat=style))
    renderer = ChatRenderer(load_processor(str(tmp_path / "out")))
    store = ImageStore()
    asked = Conversation().ask("Where?", [store.add(png(photo()))])
    chat = asked.reply(AssistantMessage(text="There.")).ask("And here?")
    before, behind = SPOKEN[style].split("<image>")
    words = tokenizer(legacy=legacy is not False)
    own = [*words(before)["input_ids"], IMAGE, *words(behind)["input_ids"][1:]]
    assert renderer.prompt(chat, lambda handle: [IMAGE]).ids == own


@pytest.mark.parametrize("style", STYLES)
def test_calls_and_results_have_their_place_in_a_chat(
    towers: Towers, tmp_path: Path, style: str
) -> None:
    truth = linear(towers)
    source = truth.save(tmp_path / "llava", truth.state)
    convert_to_transformers(source, tmp_path / "out", options(towers, truth, chat=style))
    renderer = ChatRenderer(load_processor(str(tmp_path / "out")))
    calls = tuple(
        SkillUse(id="c", name="detect", arguments={"labels": label}) for label in ("a dog", "###")
    )
    chat = Conversation(skills=(DETECT,)).ask("Is there a ### dog?")
    chat = chat.reply(AssistantMessage(text="I will look.", skill_uses=calls))
    for text in ("Found 1 dog.", "Found ### nothing </s>."):
        chat = chat.add_result(SkillResult(id="c", name="detect", text=text))
    chat = chat.reply(AssistantMessage(text="There is one."))
    whole = renderer.training(chat, lambda handle: [])
    text = renderer.tokenizer.decode(whole.ids)
    question = "Is there a ### dog?" if "v1" in style else "Is there a #\u2060## dog?"
    assert "detect model outputs: Found 1 dog.\n\ndetect model outputs: Found" in text
    assert f"Please summarize the model outputs and answer my first question: {question}" in text
    prompt = renderer.prompt(chat.model_copy(update={"messages": chat.messages[:1]}), lambda h: [])
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    learned = [i for i, is_learned in zip(whole.ids, whole.learned, strict=True) if is_learned]
    replies = renderer.tokenizer.decode(learned).split(renderer.format.end)
    answer = '"value👉" There is one.' if "plus" in style else "There is one."
    assert [reply.strip() for reply in replies[1:]] == [answer, ""]
    assert renderer.parse(replies[0], lambda: "c") == chat.messages[1]


def test_thoughts_are_written_as_llava_plus_writes_them(towers: Towers, tmp_path: Path) -> None:
    source, chosen, _ = llava_plus_v13(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    renderer = ChatRenderer(load_processor(str(tmp_path / "out")))
    use = SkillUse(id="c", name="detect", arguments={"labels": "dog"})
    said = AssistantMessage(thoughts="I need boxes.", text="I will look.", skill_uses=(use,))
    chat = Conversation().ask("Where?").reply(said)
    text = renderer.tokenizer.decode(renderer.training(chat, lambda handle: []).ids)
    assert text.endswith(
        'ASSISTANT: "thoughts🤔" I need boxes.\n'
        '"actions🚀" [{"API_name": "detect", "API_params": {"labels": "dog"}}]\n'
        '"value👉" I will look.\n</s>'
    )


def test_a_tokenizer_of_sentencepiece_is_read(towers: Towers, tmp_path: Path) -> None:
    """LLaVA's own repositories have no other; words added later lie beside it."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="llava-plus[convert] brings it")
    truth = linear(towers)
    source = truth.save(tmp_path / "llava", truth.state)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=330, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (source / "tokenizer.json").unlink()
    (source / "tokenizer.model").write_bytes(model.getvalue())
    told = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "pad_token": None}
    (source / "tokenizer_config.json").write_text(json.dumps(told))
    (source / "added_tokens.json").write_text(json.dumps({"[PAD]": 330}))
    (source / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    chosen = options(towers, truth, chat="v1")
    convert_to_transformers(source, tmp_path / "out", chosen)
    words = load_processor(str(tmp_path / "out")).tokenizer
    assert (words.pad_token, words.pad_token_id) == ("[PAD]", 330)
    spoken = "A chat: is the ### 🚀 there?\nYes."
    own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode(spoken)
    assert words(spoken, add_special_tokens=False)["input_ids"] == own
    convert_to_llava(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back" / "tokenizer.model").read_bytes() == model.getvalue()


async def test_a_converted_model_replies(towers: Towers, tmp_path: Path) -> None:
    source, chosen, _ = llava_v15(towers, tmp_path)
    convert_to_transformers(source, tmp_path / "out", chosen)
    lmm = LocalLMM.load(tmp_path / "out", max_tokens=8)
    store = ImageStore()
    asked = Conversation(skills=(DETECT,)).ask("Where?", [store.add(png(photo()))])
    *_, last = [event async for event in lmm.reply(asked, store)]
    assert isinstance(last, Replied)
    assert last.usage.completion_tokens > 0
    await lmm.aclose()


def test_the_command_converts_both_ways(towers: Towers, tmp_path: Path) -> None:
    source, _, truth = tuned_tower(towers, tmp_path)
    tower = ("--vision-tower", towers.path(truth.tower))
    run = CliRunner()
    there = run.invoke(command, [str(source), str(tmp_path / "out"), *tower, "--dtype", "bfloat16"])
    assert there.exit_code == 0, there.output
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    back = run.invoke(command, [str(tmp_path / "out"), str(tmp_path / "back"), "--to", "llava"])
    assert back.exit_code == 0, back.output
    assert "weights of the vision tower are in it" in back.output
    wrong = run.invoke(
        command, [str(tmp_path / "out"), str(tmp_path / "b"), "--to", "llava", "--chat", "v1"]
    )
    assert "--chat is for --to transformers only" in wrong.output
