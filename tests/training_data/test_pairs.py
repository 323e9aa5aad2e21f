"""Pairs of requests and skills, for the encoder of the shortlist."""

from __future__ import annotations

import re

import pytest
from llava_plus.training_data.catalogue import catalogue
from llava_plus.training_data.pairs import Pairs


@pytest.mark.parametrize("step", [0, 7])
def test_every_batch_has_each_skill_once(step: int) -> None:
    lesson = Pairs().lesson(step)
    assert lesson == Pairs().lesson(step) != Pairs().lesson(step + 1)
    assert (len(lesson.pairs), len(lesson.idle)) == (len(catalogue()) + 53, 16)
    requests = [*lesson.idle, *(request for request, _ in lesson.pairs)]
    assert not any(re.search(r"\{[a-z]+\}", request) for request in requests), "an open slot"
    assert len({text for _, text in lesson.pairs}) >= len(lesson.pairs) - 2
