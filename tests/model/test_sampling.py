"""What whoever asks wants of a reply: how its tokens are chosen, and how many there may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.model.conversation import Conversation
from llava_plus.model.lmm import LMM, Replied
from llava_plus.model.local import LocalLMM
from llava_plus.model.remote import RemoteLMM
from llava_plus.model.sampling import Sampling, sampled
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import ImageStore, SkillSpec
from transformers import PreTrainedModel

from ..serving import serving
from . import openai_server
from .tiny_models import FAMILIES, load_model, load_processor

SHORT = {"type": "string", "maxLength": 6}
NAME = SkillSpec(
    name="name",
    description="Name it.",
    parameters={"type": "object", "properties": {"name": SHORT}, "required": ["name"]},
)
ASKED = Conversation().ask("talk")


@pytest.fixture(scope="module")
def lmm(tmp_path_factory: pytest.TempPathFactory) -> LocalLMM:
    folder = FAMILIES["llava"](tmp_path_factory.mktemp("llava"))
    return LocalLMM(load_model(folder), load_processor(str(folder)), max_tokens=400)


async def replied(lmm: LMM, conversation: Conversation = ASKED, **wanted: Any) -> Replied:
    told = sampled(lmm, Sampling(**wanted)).reply(conversation, ImageStore())
    *_, last = [event async for event in told]
    assert isinstance(last, Replied)
    return last


def says_one_thing(model: PreTrainedModel, token: int) -> PreTrainedModel:
    """A model to which one token is by far the likeliest, whatever stands before it."""
    head = model.get_output_embeddings()
    always = torch.nn.Linear(head.in_features, head.out_features)
    torch.nn.init.zeros_(always.weight)
    with torch.no_grad():
        always.bias.copy_(100.0 * (torch.arange(head.out_features) == token))
    model.set_output_embeddings(always)
    return model


async def test_a_seed_decides_what_a_local_model_says(lmm: LocalLMM) -> None:
    wanted: dict[str, Any] = {"temperature": 2.0, "max_tokens": 12}
    said = [(await replied(lmm, seed=seed, **wanted)).message.text for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    greedy = (await replied(lmm, max_tokens=12)).message.text
    assert greedy == (await replied(lmm, max_tokens=12)).message.text != said[0]


async def test_of_a_share_of_nothing_the_likeliest_token_is_left(lmm: LocalLMM) -> None:
    greedy = await replied(lmm, max_tokens=12)
    narrow = await replied(lmm, max_tokens=12, temperature=2.0, top_p=0.0, seed=3)
    assert narrow.message == greedy.message


async def test_words_are_cut_off_where_they_were_to_be(lmm: LocalLMM) -> None:
    short = await replied(lmm, max_tokens=9, max_completion_tokens=5)
    assert (short.usage.completion_tokens, short.usage.cut_off) == (5, True)
    whole = await replied(lmm, max_tokens=10_000)
    assert whole.usage.completion_tokens <= 400, "the operator's bound holds"


async def test_a_model_that_goes_round_in_circles_is_cut_off(tmp_path: Path) -> None:
    model, processor = load_model(FAMILIES["llava"](tmp_path)), load_processor(str(tmp_path))
    model = says_one_thing(model, processor.tokenizer.encode("a")[-1])
    lmm = LocalLMM(model, processor, max_tokens=100)
    greedy = await replied(lmm)
    assert (greedy.usage.completion_tokens, greedy.usage.cut_off) == (48, True)
    drawn = await replied(lmm, temperature=1.0, top_p=0.0)
    assert drawn.usage.completion_tokens == 100, "what is drawn may go on otherwise"


async def test_a_call_that_has_begun_is_written_to_its_end(lmm: LocalLMM) -> None:
    grammar = lmm._grammar
    assert grammar is not None
    original = grammar._lark
    try:
        # Without the way out into words a model of noise has to call.
        grammar._lark = lambda conversation: original(conversation).replace(  # type: ignore[method-assign]
            "start: TEXT | calls | TEXT calls", "start: calls"
        )
        calling = Conversation(skills=(NAME,)).ask("go")
        last = await replied(lmm, calling, max_tokens=3, temperature=2.0, seed=0)
    finally:
        grammar._lark = original  # type: ignore[method-assign]
    assert {use.name for use in last.message.skill_uses} == {"name"}
    assert last.usage.completion_tokens > 3
    assert not last.usage.cut_off


async def test_a_server_is_asked_with_what_came_and_says_when_it_cut_off() -> None:
    wanted = Sampling(
        temperature=0.0, max_completion_tokens=7, stop=("\n",), seed=-1, presence_penalty=0.5
    )
    assert wanted.fields() == {
        "temperature": 0.0,
        "max_completion_tokens": 7,
        "stop": ["\n"],
        "seed": -1,
        "presence_penalty": 0.5,
    }
    with serving(openai_server.app) as url:
        lmm = RemoteLMM(url, "cut words", options={"temperature": 1.0, "top_p": 0.5, "seed": None})
        told = sampled(lmm, wanted).reply(ASKED, ImageStore())
        *_, last = [event async for event in told]
        await replied(lmm)
        await lmm.aclose()
    assert isinstance(last, Replied)
    assert (last.message.text, last.usage.cut_off) == ("It is", True)
    asked, plain = (seen["body"] for seen in openai_server.seen["cut words"])
    given = {name: asked.get(name) for name in (*wanted.fields(), "top_p")}
    assert given == {**wanted.fields(), "top_p": 0.5, "seed": None}, "the server takes no seed"
    assert (plain["temperature"], "stop" in plain) == (1.0, False), "that was for one reply"


def test_an_lmm_that_takes_no_say_is_asked_all_the_same() -> None:
    script = ScriptedLMM(["Yes."])
    assert sampled(script, Sampling(temperature=1.0)) is script
    remote = RemoteLMM("http://127.0.0.1:9", "any")
    assert sampled(remote, Sampling()) is remote
