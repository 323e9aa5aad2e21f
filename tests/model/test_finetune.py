"""Fine-tuning: a run learns what it should, survives a kill, and gives a model that loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from llava_plus.model.conversation import Conversation
from llava_plus.model.finetuning.freezing import optimizer_groups, part_of
from llava_plus.model.finetuning.recipe import FineTune
from llava_plus.model.finetuning.run import Watch, fine_tune
from llava_plus.model.lmm import Replied
from llava_plus.model.local import LocalLMM
from llava_plus.model.training.recipe import load_recipe
from llava_plus.model.training.runs import Progress
from llava_plus.skills import ImageStore
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.commands.train import command
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageTextToText

from .record_samples import write_records
from .tiny_models import FAMILIES, load_model

HERE = Path(__file__).parent
FULL: dict[str, Any] = {"learning_rates": {"projector": 2e-3, "language": 2e-3, "vision": 2e-4}}
LORA: dict[str, Any] = {
    "learning_rates": {"projector": 1e-3, "language": 1e-2},
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "keep_adapter": True,
}

MEASURED: dict[str, Any] = {
    "steps": 3,
    "validation": 0.3,
    "validate_every": 1,
    "gradient_norm": 0.05,
}
SHARED = {
    "full": FULL | MEASURED,
    "lora": LORA | MEASURED | {"lora": {**LORA["lora"], "dropout": 0.0}},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads may differ in the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of records and tiny models of three families."""
    folder = tmp_path_factory.mktemp("data")
    write_records(folder / "records.jsonl", 8)
    for name, make in FAMILIES.items():
        make(folder / name)
    return folder


def recipe(data: Path, changed: dict[str, Any], family: str = "llava") -> FineTune:
    settings: dict[str, Any] = {
        "engine": "transformers",
        "name": "tiny",
        "start_from": str(data / family),
        "records": [str(data / "records.jsonl")],
        "longest": 600,
        "tokens_per_row": 700,
        "records_per_step": 4,
        "steps": 5,
        "warmup": 0.0,
        "precision": "float32",
        "save_every": 2,
    }
    return FineTune.model_validate({**settings, **changed})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


async def test_a_recipe_becomes_a_model_that_replies(data: Path, tmp_path: Path) -> None:
    """By the command, whose recipe names its files from its own folder."""
    lines = recipe(data, {**FULL, "validation": 0.2, "validate_every": 3}).model_dump(mode="json")
    path = data / "tiny.yaml"
    path.write_text(json.dumps({**lines, "records": ["records.jsonl"]}), encoding="utf-8")
    told = CliRunner().invoke(command, [str(path), "--out", str(tmp_path)], catch_exceptions=False)
    assert told.exit_code == 0
    assert f"model: {tmp_path / 'model'}" in told.output
    assert (tmp_path / "loss.png").stat().st_size > 1000
    steps = log(tmp_path)
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5]
    measured = [line["validation_loss"] for line in steps if line["validation_loss"] is not None]
    assert len(measured) == 2
    assert measured[1] < measured[0] < steps[0]["loss"]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    lmm = LocalLMM.load(tmp_path / "model", max_tokens=8)
    replied = [event async for event in lmm.reply(Conversation().ask("hello"), ImageStore())]
    assert isinstance(replied[-1], Replied)


@pytest.mark.parametrize("family", FAMILIES)
def test_stage_1_teaches_the_projector_and_nothing_else(
    data: Path, tmp_path: Path, family: str
) -> None:
    changed = {"learning_rates": {"projector": 1e-2}, "steps": 2}
    assert fine_tune(recipe(data, changed, family), tmp_path)
    before, after = (load_model(folder) for folder in (data / family, tmp_path / "model"))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new) == (part_of(name) != "projector"), name


def test_a_new_projector_forgets_what_it_was(data: Path, tmp_path: Path) -> None:
    changed = {"learning_rates": {"projector": 1e-9}, "new_projector": True, "steps": 1}
    assert fine_tune(recipe(data, changed), tmp_path)
    name = "model.multi_modal_projector.linear_1.weight"
    before, after = (load_model(folder) for folder in (data / "llava", tmp_path / "model"))
    drawn = after.get_parameter(name)
    assert not torch.isclose(drawn, before.get_parameter(name)).all(dim=1).any()
    # Drawn as torch draws a linear layer: evenly, up to one over the root of its inputs.
    bound = drawn.shape[1] ** -0.5
    assert 0.95 * bound < drawn.abs().max().item() <= bound + 1e-6


def test_parts_have_learning_rates_of_their_own_and_patterns_freeze(
    data: Path, tmp_path: Path
) -> None:
    settings = recipe(data, {**FULL, "frozen": ["*.layers.0.*", "lm_head*"], "steps": 1})
    assert fine_tune(settings, tmp_path)
    before, after = (load_model(folder) for folder in (data / "llava", tmp_path / "model"))
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        if ".layers.0." in name or "lm_head" in name:
            assert torch.equal(old, new), name
            old.requires_grad_(False)
        else:
            # The first step of Adam moves every weight that has a gradient by its rate.
            rate = settings.learning_rates[part_of(name)]
            assert (new - old).abs().max().item() <= rate * 1.01, name
    groups = optimizer_groups(before, settings.learning_rates, weight_decay=0.1)
    assert {group["lr"] for group in groups} == {2e-3, 2e-4}
    sizes = {parameter.ndim >= 2 for group in groups for parameter in group["params"]}
    assert sizes == {True, False}
    assert all((group["weight_decay"] > 0) == (group["params"][0].ndim >= 2) for group in groups)


def note_run(settings: FineTune, folder: Path) -> Path:
    """A run for `recipe_runs.py`."""
    file = folder.with_suffix(".json")
    run = {"recipe": settings.model_dump(mode="json"), "folder": str(folder)}
    file.write_text(json.dumps(run), encoding="utf-8")
    return file


def start_runs(*arguments: str | Path, **settings: str) -> None:
    """Runs `recipe_runs.py` and waits for it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= settings
    words = [sys.executable, *map(str, arguments)]
    done = subprocess.run(words, timeout=300, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def killed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in the folders `full` and `lora` that were killed behind step 3, saved at step 2."""
    folder = tmp_path_factory.mktemp("killed")
    runs = [
        note_run(recipe(data, changed), folder / name)
        for name, changed in (("full", FULL), ("lora", LORA))
    ]
    start_runs(HERE / "recipe_runs.py", "--kill-after", "3", *runs)
    return folder


@pytest.mark.parametrize(("name", "changed"), [("full", FULL), ("lora", LORA)])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    data: Path, killed: Path, tmp_path: Path, name: str, changed: dict[str, Any]
) -> None:
    folder = killed / name
    assert [line["step"] for line in log(folder)] == [1, 2, 3]
    # Another kill, while a checkpoint is written, leaves one that is not whole.
    (folder / "checkpoints" / "checkpoint-3").mkdir()
    (folder / "checkpoints" / "checkpoint-3" / "learned.safetensors").write_bytes(b"half")
    heard: list[Progress] = []
    assert fine_tune(recipe(data, changed), folder, watch=Watch(step=heard.append))
    assert [progress.step for progress in heard] == [3, 4, 5]
    assert fine_tune(recipe(data, changed), tmp_path)
    assert_equal(weights(folder), weights(tmp_path))
    assert [line["loss"] for line in log(folder)] == [line["loss"] for line in log(tmp_path)]


def run_in_two(script: str, *runs: Path, **settings: str) -> None:
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    start_runs(*torchrun, HERE / script, *runs, **settings)


def assert_alike(ours: Path, theirs: Path) -> None:
    """Two runs with the same losses and, but for the order of sums, the same weights."""
    for one, two in zip(log(ours), log(theirs), strict=True):
        for name in ("step", "loss", "validation_loss", "tokens"):
            assert one[name] == pytest.approx(two[name], rel=1e-5)
    others = weights(theirs)
    for name, found in weights(ours).items():
        torch.testing.assert_close(found, others.pop(name), atol=1e-5, rtol=0)
    assert not others


def test_two_processes_take_the_steps_of_one(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, {**FULL, "steps": 2, "validation": 0.3, "validate_every": 1})
    assert fine_tune(settings, tmp_path / "one")
    run_in_two("recipe_runs.py", note_run(settings, tmp_path / "two"))
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.fixture(scope="module")
def of_one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one process makes of two recipes. Of the records two have no image, and the last row
    to be measured is one process's alone where there are two.
    """
    folder = tmp_path_factory.mktemp("one")
    for name, changed in SHARED.items():
        assert fine_tune(recipe(data, changed), folder / name)
    return {name: folder / name for name in SHARED}


def assert_alike_with_adapters(of_one: dict[str, Path], folder: Path) -> None:
    for name, one in of_one.items():
        assert_alike(one, folder / name)
    kept, shared = (
        load_file(run / "adapter" / "adapter_model.safetensors")
        for run in (of_one["lora"], folder / "lora")
    )
    for name, found in kept.items():
        torch.testing.assert_close(found, shared[name], atol=1e-5, rtol=0)


def test_two_processes_that_share_one_model_take_the_same_steps(
    data: Path, of_one: dict[str, Path], tmp_path: Path
) -> None:
    runs = [
        note_run(recipe(data, {**changed, "sharded": True}), tmp_path / name)
        for name, changed in SHARED.items()
    ]
    run_in_two("sharded_runs.py", *runs)
    assert_alike_with_adapters(of_one, tmp_path)


@pytest.mark.skipif(not find_spec("deepspeed"), reason="llava-plus[deepspeed] is not installed")
@pytest.mark.parametrize("stage", ["2", "3"])
def test_two_processes_with_deepspeed_take_the_same_steps(
    data: Path, of_one: dict[str, Path], tmp_path: Path, stage: str
) -> None:
    """The settings are those that `accelerate launch` makes of its options."""
    runs = [note_run(recipe(data, changed), tmp_path / name) for name, changed in SHARED.items()]
    settings = {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage,
        "DS_ACCELERATOR": "cpu",
    }
    run_in_two("sharded_runs.py", *runs, **settings)
    assert_alike_with_adapters(of_one, tmp_path)


def test_what_nothing_would_be_sharded_among_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="sharded: this takes several processes"):
        fine_tune(recipe(data, {**FULL, "sharded": True}), tmp_path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("changed", [FULL, LORA])
def test_weights_keep_the_names_that_other_engines_read(
    data: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    """Published repositories name the tower's weights as transformers did before 5.23."""
    published = tmp_path / "published"
    shutil.copytree(data / "llava", published)
    found = load_file(published / "model.safetensors")
    named = {
        name.replace("vision_tower.", "vision_tower.vision_model."): weight
        for name, weight in found.items()
    }
    save_file(named, published / "model.safetensors", metadata={"format": "pt"})
    settings = recipe(data, {**changed, "start_from": str(published), "steps": 1})
    assert fine_tune(settings, tmp_path / "run")
    assert weights(tmp_path / "run").keys() == named.keys()


# peft 0.21 asks transformers by a name that 5.23 calls old.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_is_merged_and_kept(data: Path, tmp_path: Path) -> None:
    """The finished model is the one that it started from, with the adapter by its side."""
    from peft import PeftModel

    assert fine_tune(recipe(data, {**LORA, "steps": 2}), tmp_path)
    start = AutoModelForImageTextToText.from_pretrained(data / "llava")
    before = {name: one.clone() for name, one in start.state_dict().items()}
    adapted = PeftModel.from_pretrained(start, str(tmp_path / "adapter")).merge_and_unload()
    merged = load_model(tmp_path / "model").state_dict()
    for name, found in adapted.state_dict().items():
        torch.testing.assert_close(merged[name], found)
        adapted_layer = "_proj." in name and part_of(name) == "language"
        changed = adapted_layer or part_of(name) == "projector"
        assert torch.equal(found, before[name]) != changed, name


def test_a_run_stops_in_time_and_goes_on(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, {**FULL, "steps": 2})
    assert not fine_tune(settings, tmp_path / "stopped", stop_after=0)
    assert not (tmp_path / "stopped" / "model").exists()
    assert fine_tune(settings, tmp_path / "stopped", stop_after=60)
    assert fine_tune(settings, tmp_path / "unbroken")
    assert_equal(weights(tmp_path / "stopped"), weights(tmp_path / "unbroken"))


@pytest.mark.parametrize(
    "changed",
    [
        {"packing": "never"},
        {"tokens_per_row": 2400},
        {"gradient_checkpointing": True},
    ],
)
def test_rows_and_memory_change_the_speed_and_not_the_loss(
    data: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    losses = []
    for number, settings in enumerate(({}, changed)):
        heard: list[Progress] = []
        watch = Watch(step=heard.append)
        fine_tune(
            recipe(data, {**FULL, **settings, "steps": 2}), tmp_path / str(number), watch=watch
        )
        losses.append([progress.loss for progress in heard])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_in_bfloat16_what_learns_stays_exact(data: Path, tmp_path: Path) -> None:
    changed = {"precision": "bfloat16", "learning_rates": {"projector": 1e-2}, "steps": 2}
    assert fine_tune(recipe(data, changed), tmp_path)
    (checkpoint,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    learned = load_file(checkpoint / "learned.safetensors")
    assert {part_of(name) for name in learned} == {"projector"}
    assert {one.dtype for one in learned.values()} == {torch.float32}
    assert {one.dtype for one in weights(tmp_path).values()} == {torch.bfloat16}


def test_a_run_is_not_continued_as_another(data: Path, tmp_path: Path) -> None:
    fine_tune(recipe(data, {**FULL, "steps": 1}), tmp_path)
    with pytest.raises(BadConfiguration, match=r"another recipe .*\(seed, steps\)"):
        fine_tune(recipe(data, {**FULL, "steps": 2, "seed": 1}), tmp_path)


def test_a_run_is_not_gone_on_with_on_another_validation_file(data: Path, tmp_path: Path) -> None:
    measured = tmp_path / "held_out.jsonl"
    write_records(measured, 2)
    settings = recipe(data, {**FULL, "steps": 1, "validation": str(measured)})
    fine_tune(settings, tmp_path / "run")
    fine_tune(settings, tmp_path / "run")
    write_records(measured, 3)
    with pytest.raises(BadConfiguration, match=r"other records \(content of .*held_out\.jsonl\)"):
        fine_tune(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"records": []}, "names no records"),
        ({"frozen": ["*nowhere*"]}, r"no parameter is named like '\*nowhere\*'"),
        ({"frozen": ["*"]}, "leave nothing that learns"),
        ({"learning_rates": {"projector": 1e30, "language": 1e30}, "steps": 3}, "is nan"),
        ({"start_from": "./nowhere"}, "nowhere"),
        ({"chat": "v9"}, "no chat style 'v9'"),
    ],
)
def test_what_cannot_be_run_is_told(
    data: Path, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadConfiguration, match=words):
        fine_tune(recipe(data, {**FULL, **changed}), tmp_path)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_four_bits_need_a_package(data: Path, tmp_path: Path) -> None:
    settings = recipe(data, {**LORA, "keep_adapter": False, "quantized": "nf4"})
    with pytest.raises(BadConfiguration, match="needs the package bitsandbytes"):
        fine_tune(settings, tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("tokens_per_row: 100", "no room for a record of 2048"),
        ("lora: {parts: [vision]}", "its part vision has no rate"),
        ("quantized: nf4", "quantized: this is for runs with lora"),
        ("lora: {}\nkeep_adapter: true\nlearning_rates: {language: 1, vision: 1}", "the vision"),
        ("learning_rates: {}", "learning_rates"),
        ("learning_rates: {ears: 1}", "ears"),
        ("engine: steam", "'steam' is not one of embedded, grpo and transformers"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path: Path, changed: str, words: str) -> None:
    lines = {"engine": "transformers", "name": "x", "start_from": "y", "records_per_step": "1"}
    lines["learning_rates"] = "{language: 1}"
    given = [line.split(":")[0] for line in changed.splitlines()]
    kept = [f"{name}: {value}" for name, value in lines.items() if name not in given]
    (tmp_path / "recipe.yaml").write_text("\n".join([*kept, changed]), encoding="utf-8")
    with pytest.raises(BadConfiguration, match=words):
        load_recipe(str(tmp_path / "recipe.yaml"))


def test_the_shipped_recipes_have_the_published_settings() -> None:
    """LLaVA-1.5's (arXiv 2310.03744, table of hyperparameters, and its LoRA script)."""
    one, two, lora = (load_recipe(f"llava-{name}") for name in ("stage1", "stage2", "lora"))
    assert isinstance(one, FineTune)
    assert isinstance(two, FineTune)
    assert isinstance(lora, FineTune)
    assert (one.learning_rates, one.records_per_step) == ({"projector": 1e-3}, 256)
    assert one.new_projector
    assert two.learning_rates == {"projector": 2e-5, "language": 2e-5}
    assert lora.learning_rates == {"projector": 2e-5, "language": 2e-4}
    assert two.records_per_step == lora.records_per_step == 128
    assert lora.lora is not None
    assert (lora.lora.rank, lora.lora.alpha) == (128, 256)
    for each in (one, two, lora):
        assert (each.warmup, each.schedule, each.weight_decay) == (0.03, "cosine", 0.0)
        assert (each.epochs, each.longest, each.precision) == (1, 2048, "bfloat16")
