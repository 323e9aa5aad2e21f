"""Cost of a step of fine-tuning: this project's engine, TRL's, and the loop of LLaVA.

    python tests/benchmarks/training.py [--steps 6] [--threads 1]

The same records in the same order, the same model (a LLaVA of 20 million weights with a vocabulary
of 32,000), AdamW and settings: so the losses have to agree, and are printed. Each contender is a
process of its own, so that peak memory is its alone; "above weights" is what it takes beyond the
process as it stands with the model loaded. Speed is in tokens of records, whatever padding or
sharing there is, a second of processor time: other work on the machine does not count.

- `ours`: `fine_tune`, with several records to a row.
- `trl`: `SFTTrainer` of TRL 1.16, which drops `tools` and refuses to pack beside images: it is
  given our tokens and masks, padded to the longest of a batch.
- `llava`: the loop of LLaVA's `train.py`, padded batches and the logits of every token, on
  transformers' own forward.

Two sets of records: `own` has another choice of skills in every record, `shared` offers the same
skills in all, as those of one installation do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.finetuning.recipe import FineTune
from llava_plus.model.finetuning.record_files import RecordFile
from llava_plus.model.finetuning.row_plan import RowPlan
from llava_plus.model.finetuning.rows import Row, RowMaker, join_features
from llava_plus.model.finetuning.run import Watch, fine_tune
from llava_plus.model.record import Record
from llava_plus.skills import ImageStore, SkillResult, SkillSpec, SkillUse
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

sys.path.append(str(Path(__file__).parents[1] / "model"))
from tiny_models import llava, load_processor

CONTENDERS = ("ours", "trl", "llava")
RECORDS, PER_STEP, PER_BATCH = 48, 8, 4
RATE = 3e-4
Step = Callable[[int, float], None]


def make_model(folder: Path) -> None:
    """A processor as in the tests, and a model with a vocabulary of a usual size."""
    llava(folder)
    processor = load_processor(str(folder))
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=32_000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=processor.tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)


def make_records(path: Path, *, shared: bool) -> None:
    """Records of 200 to 1,000 tokens, about a fifth of them learned."""
    (path.parent / "images").mkdir(exist_ok=True)
    lines = []
    for number in range(RECORDS):
        drawn = random.Random(number)
        file = path.parent / "images" / f"{number}.png"
        Image.new("RGB", (56, 56), (number, 90, 200)).save(file)
        image = ImageStore().add(file.read_bytes())
        names = [f"skill_{letter}" for letter in "abcdefgh"]
        offered = names[:3] if shared else drawn.sample(names, drawn.choice([1, 2, 3]))
        talk = Conversation(skills=tuple(_spec(name) for name in offered))
        talk = talk.ask("What is in the image? " + _words(drawn, 4, 40), [image])
        use = SkillUse(id="call_1", name=offered[0], arguments={"query": _words(drawn, 2, 8)})
        talk = talk.reply(AssistantMessage(skill_uses=(use,)))
        found = SkillResult(id="call_1", name=offered[0], text=_words(drawn, 5, 90))
        talk = talk.add_result(found).reply(AssistantMessage(text=_words(drawn, 10, 70)))
        record = Record.of(talk, {"img_1": f"images/{number}.png"}, id=str(number))
        lines.append(record.to_line() + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def _spec(name: str) -> SkillSpec:
    described = "There are two dogs in the image; find things in it, and say where they are"
    arguments = {"query": {"type": "string", "description": "What is in the image to find"}}
    return SkillSpec(
        name=name,
        description=f"{name}: {described}",
        parameters={"type": "object", "properties": arguments, "required": ["query"]},
    )


def _words(drawn: random.Random, least: int, most: int) -> str:
    words = "the image there are two dogs and a red car says INVOICE 2024 find mask made".split()
    return " ".join(drawn.choices(words, k=drawn.randint(least, most)))


class Padded:
    """The records in the order of the plan, and batches of them padded to the longest."""

    def __init__(self, folder: Path, steps: int) -> None:
        processor = load_processor(str(folder / "model"))
        self._file = RecordFile(folder / "records.jsonl")
        self._maker = RowMaker(processor, longest=1200)
        self._pad = processor.tokenizer.pad_token_id
        lengths = [len(self._row(number)) for number in range(len(self._file))]
        plan = RowPlan(lengths, records_per_step=PER_STEP, steps=steps, tokens_per_row=None)
        self.tokens = [plan.tokens(step) for step in range(steps)]
        self.order = [record for step in range(steps) for record in plan.records(step)]

    def _row(self, number: int) -> Row:
        return self._maker.row(self._file[number], self._file.folder)

    def collate(self, numbers: Sequence[int]) -> dict[str, Any]:
        rows = [self._row(number) for number in numbers]
        longest = max(len(row) for row in rows)

        def filled(values: Callable[[Row], list[int]], filling: int) -> torch.Tensor:
            return torch.tensor([values(r) + [filling] * (longest - len(r)) for r in rows])

        return {
            "input_ids": filled(lambda row: row.ids, self._pad),
            "labels": filled(_labels, -100),
            "attention_mask": filled(lambda row: [1] * len(row), 0),
            **join_features(row.features for row in rows),
        }


def _labels(row: Row) -> list[int]:
    return [i if learned else -100 for i, learned in zip(row.ids, row.learned, strict=True)]


def run_ours(folder: Path, steps: int, done: Step) -> None:
    recipe = FineTune.model_validate(
        {
            "engine": "transformers",
            "name": "ours",
            "start_from": str(folder / "model"),
            "records": [folder / "records.jsonl"],
            "longest": 1200,
            "tokens_per_row": 2400,
            "learning_rates": {"projector": RATE, "vision": RATE, "language": RATE},
            "records_per_step": PER_STEP,
            "steps": steps,
            "schedule": "constant",
            "warmup": 0,
            "precision": "float32",
            "save_every": 10_000,
        }
    )
    say = Console(stderr=True).print
    fine_tune(recipe, folder / "run", watch=Watch(step=lambda p: done(p.tokens, p.loss), say=say))


def run_trl(folder: Path, steps: int, done: Step) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    padded = Padded(folder, steps)

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                done(padded.tokens[state.global_step - 1], logs["loss"])

    settings = SFTConfig(
        str(folder / "trl"),
        max_steps=steps,
        per_device_train_batch_size=PER_BATCH,
        gradient_accumulation_steps=PER_STEP // PER_BATCH,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        gradient_checkpointing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    SFTTrainer(
        model=_load(folder),
        args=settings,
        train_dataset=Dataset.from_dict({"record": padded.order}),
        data_collator=lambda rows: padded.collate([row["record"] for row in rows]),
        processing_class=load_processor(str(folder / "model")),
        callbacks=[Log()],
    ).train()


def run_llava(folder: Path, steps: int, done: Step) -> None:
    padded, model = Padded(folder, steps), _load(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    for step in range(steps):
        records = padded.order[step * PER_STEP : (step + 1) * PER_STEP]
        batches = [
            padded.collate(records[start : start + PER_BATCH])
            for start in range(0, PER_STEP, PER_BATCH)
        ]
        learned = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            loss = model(**batch, num_items_in_batch=learned).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done(padded.tokens[step], total)


def _load(folder: Path) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(folder / "model")


def contend(name: str, folder: Path, steps: int) -> None:
    """Run one contender in this process and print what it took."""
    kept = _load(folder)  # so that the weights are in what is subtracted
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _memory("VmRSS")
    del kept
    marks: list[tuple[float, int, float]] = []

    def done(tokens: int, loss: float) -> None:
        marks.append((time.process_time(), tokens, loss))

    {"ours": run_ours, "trl": run_trl, "llava": run_llava}[name](folder, steps, done)
    # The first step also makes the optimiser's memory.
    seconds = marks[-1][0] - marks[0][0]
    found = {
        "speed": sum(tokens for _, tokens, _ in marks[1:]) / seconds,
        "memory": (_memory("VmHWM") - before) / 1024,
        "losses": [loss for _, _, loss in marks],
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _memory(name: str) -> int:
    """Kilobytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(name: str, folder: Path, steps: int, threads: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--contender", name, "--folder", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*words, "--steps", str(steps)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.folder, options.steps)
        return
    for kind in ("own", "shared"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_model(folder / "model")
            make_records(folder / "records.jsonl", shared=kind == "shared")
            found = {
                one: measure(one, folder, options.steps, options.threads) for one in CONTENDERS
            }
        show(kind, found)


def show(kind: str, found: dict[str, dict[str, Any]]) -> None:
    table = Table(title=f"records with {kind} skills", title_justify="left")
    columns = ("", "tokens/s", "ours is", "MB above weights", "ours takes", "loss of each step")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    ours = found["ours"]
    for name, one in found.items():
        table.add_row(
            name,
            f"{one['speed']:,.0f}",
            f"{ours['speed'] / one['speed']:.2f} x",
            f"{one['memory']:,.0f}",
            f"{ours['memory'] / one['memory']:.2f} x",
            " ".join(f"{loss:.5f}" for loss in one["losses"]),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
