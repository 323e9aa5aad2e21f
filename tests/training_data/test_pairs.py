"""Pairs of requests and skills, for the encoder of the shortlist."""

from __future__ import annotations

import re

import pytest
from llava_plus.training_data.catalogue import catalogue
from llava_plus.training_data.pairs import Pairs


@pytest.mark.parametrize("step", [0, 7])
def test_every_batch_has_each_skill_once(step: int) -> None:
    batch = Pairs().batch(step)
    assert batch == Pairs().batch(step) != Pairs().batch(step + 1)
    assert len(batch) == len(catalogue()) + 53
    assert not any(re.search(r"\{[a-z]+\}", request) for request, _ in batch), "an open slot"
    assert len({text for _, text in batch}) >= len(batch) - 2
