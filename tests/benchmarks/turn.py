"""What a turn costs: time to the first call, the kept cache, and the grammar.

Run with `python tests/benchmarks/turn.py [MODEL_FOLDER]`; every ratio is against a baseline
measured in the same run.
"""

from __future__ import annotations

import asyncio
import io
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llava_plus.agent.loop import Agent
from llava_plus.agent.session import SessionOptions, open_session
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import Replied
from llava_plus.model.local import LocalLMM
from llava_plus.model.shipped import embedded_folder
from llava_plus.skills import ImageRef, ImageStore, SkillResult, SkillUse
from llava_plus.skills.errors import BadReply
from llava_plus.training_data.catalogue import catalogue
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

REQUESTS = (
    "what does it say?",
    "How many faces are there in this picture?",
    "blur it a little",
    "rotate it by 90 degrees",
    "read the text to me please",
    "is there a person anywhere?",
    "make it black and white",
    "find the QR code",
    "too dark, brighten it",
    "Transcribe this.",
)


def sign(store: ImageStore, words: str = "EXIT 24") -> ImageRef:
    """An image of a sign."""
    image = Image.new("RGB", (640, 400), (245, 245, 240))
    font = ImageFont.load_default(size=80)
    ImageDraw.Draw(image).text((120, 150), words, fill=(20, 60, 140), font=font)
    data = io.BytesIO()
    image.save(data, "PNG")
    return store.add(data.getvalue())


async def turns(folder: str) -> Table:
    """Median seconds to the first call and of the whole turn, skills run by a real worker."""
    first_call, whole, called = [], [], 0
    async with open_session(SessionOptions(lmm=folder)) as session:
        store = ImageStore()
        image = sign(store)
        for request in ("what does it say?", *REQUESTS):  # the first one warms everything up
            asked = session.conversation().ask(request, [image])
            calls, seconds = await turn(session.agent, asked, store)
            first_call.append(calls)
            whole.append(seconds)
            called += calls is not None
    table = Table("turn (warm)", "seconds", title=f"{called - 1} of {len(REQUESTS)} called a skill")
    decided = [seconds for seconds in first_call[1:] if seconds is not None]
    table.add_row("median to the first call", f"{statistics.median(decided):.2f}")
    table.add_row("median of the whole turn", f"{statistics.median(whole[1:]):.2f}")
    return table


async def turn(
    agent: Agent, conversation: Conversation, store: ImageStore
) -> tuple[float | None, float]:
    """Seconds to the first call (None without one) and to the end."""
    started = time.perf_counter()
    first = None
    async for event in agent.turn(conversation, store):
        if first is None and type(event).__name__ == "CallsDecided":
            first = time.perf_counter() - started
    return first, time.perf_counter() - started


async def kept_cache(folder: str) -> Table:
    """The second step of a turn on a context of about 1,500 tokens, with and without the cache."""
    store = ImageStore()
    image = sign(store)
    use = SkillUse(id="c1", name="ocr", arguments={"image": "img_1"})
    found = SkillResult(id="c1", name="ocr", text="Read 1 line:\nEXIT 24")
    asked = padded(LocalLMM.load(folder), image)
    second = asked.reply(AssistantMessage(skill_uses=(use,))).add_result(found)
    table = Table("second step", "prompt", "computed", "to first token, ms")
    seconds = {}
    for name, keep in (("cache kept", True), ("computed anew", False)):
        lmm = LocalLMM.load(folder, keep_cache=keep, max_tokens=24)
        taken = []
        for _ in range(7):
            await reply(lmm, asked, store)
            usage = (await reply(lmm, second, store)).usage
            taken.append(usage.first_token_seconds)
        seconds[name] = statistics.median(taken)
        computed = usage.prompt_tokens - usage.cached_tokens
        row = (str(usage.prompt_tokens), str(computed), f"{1000 * seconds[name]:.1f}")
        table.add_row(name, *row)
    table.add_row("times faster", "", "", f"{seconds['computed anew'] / seconds['cache kept']:.1f}")
    return table


def padded(lmm: LocalLMM, image: ImageRef) -> Conversation:
    """A conversation of about 1,500 tokens that ends with a request."""
    conversation = Conversation(skills=tuple(catalogue().values())).ask("hello", [image])
    while True:
        conversation = conversation.reply(AssistantMessage(text="Found 3 dogs and a red car. " * 4))
        conversation = conversation.ask("And what does the sign in it say to you?")
        if len(lmm.renderer.prompt(conversation, lambda handle: [0] * 16).ids) > 1450:
            return conversation


async def reply(lmm: LocalLMM, conversation: Conversation, store: ImageStore) -> Replied:
    """The end of a reply."""
    async for event in lmm.reply(conversation, store):
        if isinstance(event, Replied):
            return event
    raise AssertionError("a reply ends with Replied")


async def grammar(folder: str) -> Table:
    """Decoding time per token with the grammar and without, and the share spent in it."""
    store = ImageStore()
    asked = Conversation(skills=tuple(catalogue().values())).ask(REQUESTS[0], [sign(store)])
    table = Table("decoding", "tokens", "ms a token", "in the grammar")
    for name, use_grammar in (("with grammar", True), ("without", False)):
        lmm = LocalLMM.load(folder, use_grammar=use_grammar, max_tokens=60)
        tokens, seconds, inside = 0, 0.0, 0.0
        await reply(lmm, asked, store)
        for request in REQUESTS:
            with grammar_clock(lmm) as clock:
                try:
                    usage = (await reply(lmm, asked.ask(request), store)).usage
                except BadReply:  # which happens without the grammar
                    continue
            tokens += usage.completion_tokens
            seconds += usage.seconds - usage.first_token_seconds
            inside += clock[0]
        share = f"{inside / seconds:.1%}" if use_grammar else ""
        table.add_row(name, str(tokens), f"{1000 * seconds / tokens:.2f}", share)
    return table


@contextmanager
def grammar_clock(lmm: LocalLMM) -> Iterator[list[float]]:
    """Adds up the seconds that a reply spends in the grammar's matcher."""
    spent = [0.0]
    original = lmm._matcher

    class Clocked:
        def __init__(self, matcher: Any) -> None:
            self._matcher = matcher

        def __getattr__(self, name: str) -> Any:
            method = getattr(self._matcher, name)

            def timed(*arguments: Any) -> Any:
                started = time.perf_counter()
                result = method(*arguments)
                spent[0] += time.perf_counter() - started
                return result

            return timed

    def clocked(*arguments: Any) -> Any:
        matcher = original(*arguments)
        return None if matcher is None else Clocked(matcher)

    lmm._matcher = clocked  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        lmm._matcher = original  # type: ignore[method-assign]


async def main(folder: str) -> None:
    """Run all and print the tables."""
    console = Console()
    for measure in (kept_cache, grammar, turns):
        console.print(await measure(folder))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else str(embedded_folder())))
