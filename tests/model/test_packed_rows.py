"""Rows: what stands in them, which records share one, and that sharing changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.finetuning.loss_guard import check_loss, set_attention
from llava_plus.model.finetuning.packed_attention import PACKED, packed_attention
from llava_plus.model.finetuning.packed_rows import RowPacker
from llava_plus.model.finetuning.record_files import RecordFile
from llava_plus.model.finetuning.row_plan import RowPlan, consecutive_rows
from llava_plus.model.finetuning.rows import Row, RowMaker
from llava_plus.skills.errors import BadConfiguration
from transformers import PreTrainedModel

from .record_samples import write_records
from .tiny_models import FAMILIES, load_model, load_processor


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedModel, list[Row]]:
    folder = tmp_path_factory.mktemp(request.param)
    start = FAMILIES[request.param](folder / "model")
    maker = RowMaker(load_processor(str(start)), longest=1000)
    records = RecordFile(write_records(folder / "records.jsonl", 5))
    return load_model(start), [maker.row(record, folder) for record in records]


def test_records_in_one_row_have_the_gradients_that_they_have_apart(
    family: tuple[PreTrainedModel, list[Row]],
) -> None:
    """With one image, two, or none, of three families; what they open with is there once."""
    model, rows = family
    packer = RowPacker(model)
    learned = sum(sum(row.learned) for row in rows)
    apart = sum(model(**packer.separate([row]), num_items_in_batch=learned).loss for row in rows)
    right = torch.autograd.grad(apart, list(model.parameters()), allow_unused=True)
    inputs = packer.pack(rows)
    ((shared, *own),) = inputs["layout"]
    assert shared > 32
    assert inputs["input_ids"].shape[1] == shared + sum(own) == sum(map(len, rows)) - 4 * shared
    before = set_attention(model, PACKED)
    together = model(**inputs, num_items_in_batch=learned).loss
    found = torch.autograd.grad(together, list(model.parameters()), allow_unused=True)
    set_attention(model, before)
    torch.testing.assert_close(together, apart)
    for ours, theirs in zip(found, right, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_logits_are_computed_where_a_learned_token_follows_and_nowhere_else(
    family: tuple[PreTrainedModel, list[Row]],
) -> None:
    model, rows = family
    inputs = RowPacker(model).separate(rows[:1])
    with torch.no_grad():
        logits = model(**inputs).logits
    assert len(logits) == sum(rows[0].learned)
    followed = [
        token for token, learned in zip(rows[0].ids, rows[0].learned, strict=True) if learned
    ]
    assert inputs["shift_labels"].tolist() == followed


def test_the_guard_finds_records_that_see_each_other(
    family: tuple[PreTrainedModel, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = family
    packer = RowPacker(model)
    assert check_loss(model, packer, rows) is None
    packed = packer.pack(rows)
    as_one = [[0, packed["input_ids"].shape[1]]]
    monkeypatch.setattr(packer, "pack", lambda rows: {**packed, "layout": as_one})
    assert "in one row" in str(check_loss(model, packer, rows))


@pytest.mark.parametrize("window", [None, 3])
def test_packed_attention_is_attention_under_a_mask(window: int | None) -> None:
    """An opening of 4 and parts of 5 and 2, then a part of 3 alone; two heads share their keys."""
    layout = [[4, 5, 2], [0, 3]]
    parts = torch.repeat_interleave(torch.arange(4), torch.tensor([4, 5, 2, 3]))
    places = torch.tensor([*range(9), 4, 5, *range(3)])
    seen = (parts[:, None] == parts) | ((parts[:, None] < 3) & (parts == 0))
    far = places[:, None] - places
    seen &= (far >= 0) & (far < (window or 99))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 14, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, 14, 8, generator=generator)
    found, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, 0.5, layout=layout, sliding_window=window
    )
    key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    scores = (query @ key.mT * 0.5).masked_fill(~seen, -torch.inf)
    torch.testing.assert_close(found, (scores.softmax(-1) @ value).transpose(1, 2))


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(50, 120),
    st.integers(0, 5),
)
def test_every_record_is_learned_from_once_an_epoch_in_rows_that_fit(
    lengths: list[int], processes: int, share: int, budget: int, seed: int
) -> None:
    count = processes * share
    plan = RowPlan(
        lengths,
        records_per_step=count,
        steps=len(lengths),
        tokens_per_row=budget,
        seed=seed,
        processes=processes,
    )
    assert plan.rows_per_step % processes == 0
    assert len(plan) == plan.rows_per_step * plan.steps
    rows = [plan[number] for number in range(len(plan))]
    assert all(row and sum(lengths[one] for one in row) <= budget for row in rows)
    taken = [record for step in range(plan.steps) for record in plan.records(step)]
    size = len(lengths)
    for epoch in range(len(taken) // size):
        assert sorted(taken[epoch * size : (epoch + 1) * size]) == list(range(size))
    for step in range(plan.steps):
        assert sorted(one for row in plan.rows(step) for one in row) == sorted(plan.records(step))
        assert plan.tokens(step) == sum(lengths[one] for one in plan.records(step))


def test_the_records_of_a_step_do_not_depend_on_rows_or_processes() -> None:
    lengths = list(range(10, 34))
    settings = {"records_per_step": 8, "steps": 6, "seed": 3}
    one = RowPlan(lengths, tokens_per_row=None, **settings)
    two = RowPlan(lengths, tokens_per_row=64, processes=2, **settings)
    assert one.rows_per_step == 8
    assert two.rows_per_step < 8
    assert [one.records(step) for step in range(6)] == [two.records(step) for step in range(6)]
    other = RowPlan(lengths, tokens_per_row=64, records_per_step=8, steps=6, seed=4)
    assert other.records(0) != one.records(0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"processes": 3}, "records_per_step: 4 records cannot be shared by 3 processes"),
        ({"tokens_per_row": 9}, "a record has 12 tokens and a row only 9"),
        ({"lengths": []}, "no record to learn from"),
    ],
)
def test_what_cannot_be_planned_is_told(changed: dict[str, object], words: str) -> None:
    settings = {"lengths": [5, 12], "records_per_step": 4, "steps": 1, "tokens_per_row": 99}
    with pytest.raises(BadConfiguration, match=words):
        RowPlan(**{**settings, **changed})


def test_rows_for_validation_are_filled_in_order() -> None:
    assert consecutive_rows([5, 4, 2, 9, 1], 10) == [[0, 1], [2], [3, 4]]
    assert consecutive_rows([5, 4], None) == [[0], [1]]
