"""The one place where a conversation becomes tokens, for serving and for training alike."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..skills.calls import SkillSpec
from ..skills.errors import BadConfiguration
from .call_format import CallFormat, Part
from .chat_template import ChatTemplate, Reply, told_tool_images
from .control import ControlTokens
from .conversation import AssistantMessage, Conversation, Message
from .llava_plus.speech import LlavaPlusFormat, speaks_llava_plus
from .llava_plus.turns import EMOJI_KEYS
from .text_tokens import Run, TextTokens
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, ProcessorMixin

    from .shortlist import Likely

__all__ = ["ChatRenderer", "ImagePlace", "Part", "Rendered", "shows_shortlist"]

ImageTokens = Callable[[str], Sequence[int]]
"""The handle of an image to the placeholder tokens that stand for it."""


@dataclass(frozen=True)
class ImagePlace:
    """Where the placeholder tokens of one image stand: `ids[start:stop]`."""

    handle: str
    start: int
    stop: int


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens; `parts[i]` is what `ids[i]` is in a reply, None outside of them."""

    ids: list[int] = field(default_factory=list)
    parts: list[Part | None] = field(default_factory=list)
    images: list[ImagePlace] = field(default_factory=list)

    @property
    def learned(self) -> list[bool]:
        """Whether training learns to write each token: exactly where a part stands."""
        return [part is not None for part in self.parts]


class ChatRenderer:
    """Renders conversations with a model's own chat template.

    `shortlist` ranks the skills for a request; it is asked only when the template shows it. With
    `calls=False` replies are words alone, and any template will do. `tool_images` says whether
    images that skills made are shown with their results; unless given, they are where the template
    has a place for them and the model was not trained without. Raises `BadConfiguration` where the
    template cannot do what is asked of it.
    What people, skills and specs say passes `control.neutralise` first, so that it can never
    act as a control token.
    """

    def __init__(
        self,
        processor: ProcessorMixin,
        shortlist: Callable[..., list[Likely]] | None = None,
        *,
        calls: bool = True,
        tool_images: bool | None = None,
    ) -> None:
        self.tokenizer: PreTrainedTokenizerFast = processor.tokenizer
        template = processor.chat_template or self.tokenizer.chat_template
        if not isinstance(template, str):
            raise BadConfiguration("the model has no chat template: give it a chat_template.jinja")
        self._shortlist = shortlist if shows_shortlist(template) else None
        self.image_token = _image_token(processor)
        added = [token.content for token in self.tokenizer.added_tokens_decoder.values()]
        marks = EMOJI_KEYS if speaks_llava_plus(template) else ()
        self.control = ControlTokens([*added, self.image_token, *marks])
        special = self.tokenizer.special_tokens_map
        self._template = ChatTemplate(template, special, self.control.spellings)
        self._tokens = TextTokens(self.tokenizer)
        self._last_tools: tuple[tuple[SkillSpec, ...], list[dict[str, Any]]] | None = None
        self.format = self._format_of(template, calls=calls)
        takes_them = self._template.shows_tool_images(self.image_token)
        if tool_images is None:
            # The project's own models read a shortlist, and have learned results as words alone.
            told = told_tool_images(template)
            wanted = not shows_shortlist(template) if told is None else told
            tool_images = takes_them and wanted
        elif tool_images and not takes_them:
            raise BadConfiguration(
                "tool_images is on, but the chat template shows no image in a result: leave it off"
            )
        self.tool_images = tool_images

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The texts of the tokenizer's tokens."""
        return Vocabulary(self.tokenizer)

    @cached_property
    def call_token(self) -> int | None:
        """The token that only calls begin with, where the template opens them with one."""
        opening = next(self._tokens.sections(self.format.begin, anew=False), None)
        return opening.token if opening else None

    def prompt(self, conversation: Conversation, image_tokens: ImageTokens) -> Rendered:
        """The tokens after which the LMM writes its next reply."""
        text, starts = self._template.prompt(
            self._messages(conversation), self._tools(conversation)
        )
        replies = [Reply(start, start) for start in starts]
        handles = self.shown(conversation.messages, conversation.images)
        return self._tokenize(text, replies, handles, image_tokens)

    def training(self, conversation: Conversation, image_tokens: ImageTokens) -> Rendered:
        """The tokens of a finished conversation, with those marked that the LMM learns to write:
        its calls, its answers and the end of its turns, and nothing that others said.
        """
        messages, tools = self._messages(conversation), self._tools(conversation)
        text, replies = self._template.finished(messages, tools, self.format.end)
        handles = self.shown(conversation.messages, conversation.images)
        return self._tokenize(text, replies, handles, image_tokens)

    def shown(self, messages: Iterable[Message], at_hand: Container[str]) -> list[str]:
        """The handles of the images that the LMM sees, in their order; the others of `messages`
        are not `at_hand`, or made by skills for a model that does not see such.
        """
        return [
            handle
            for message in messages
            if message.role == "user" or (message.role == "tool" and self.tool_images)
            for handle in message.images
            if handle in at_hand
        ]

    def parse(
        self, reply: str, new_id: Callable[[], str], conversation: Conversation | None = None
    ) -> AssistantMessage:
        """Read what the LMM wrote in a conversation, end token left out. Raises `BadReply`."""
        message = self.format.parse(reply, new_id)
        uses = tuple(
            use.model_copy(update={"arguments": self.control.restore_all(use.arguments)})
            for use in message.skill_uses
        )
        said = AssistantMessage(
            text=self.control.restore(message.text),
            thoughts=self.control.restore(message.thoughts),
            skill_uses=uses,
        )
        return self.format.understood(said, conversation or Conversation())

    def _messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        plain = self.format.messages(conversation)
        if self._shortlist:
            for place, message in enumerate(plain):
                said = conversation.messages[place]
                if said.role == "user":
                    image = conversation.has_image(place)
                    likely = self._shortlist(said.text, conversation.skills, image=image)
                    message["likely"] = [asdict(skill) for skill in likely]
        for message, said in zip(plain, conversation.messages, strict=True):
            if said.role == "tool" and (made := self.shown([said], conversation.images)):
                images = [{"type": "image", "image": handle} for handle in made]
                message["content"] = [*images, {"type": "text", "text": message["content"]}]
        messages: list[dict[str, Any]] = self.control.neutralise_all(plain)
        for message in messages:
            for call in message.get("tool_calls", ()):
                # Templates want the arguments as an object, the wire has them as text.
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        return messages

    def _tools(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The skills on offer; most conversations have those of the last one."""
        skills = self.format.described(conversation.skills)
        if self._last_tools is None or self._last_tools[0] != skills:
            tools: list[dict[str, Any]] = self.control.neutralise_all([s.tool() for s in skills])
            self._last_tools = (skills, tools)
        return self._last_tools[1]

    def _format_of(self, template: str, *, calls: bool) -> CallFormat:
        if speaks_llava_plus(template):
            return LlavaPlusFormat.of(self._probe)
        if not calls:
            return CallFormat.without_calls(self._probe)
        return CallFormat.probe(self._probe, _end_tokens(self.tokenizer))

    def _probe(self, messages: list[dict[str, Any]], opened: bool) -> str:
        return self._template.text(messages, [], opened=opened)

    def _tokenize(
        self, text: str, replies: list[Reply], handles: list[str], image_tokens: ImageTokens
    ) -> Rendered:
        """Tokens of `text`, which is cut where a reply begins: no token reaches from what the LMM
        reads into what it writes, so a prompt has the tokens that were trained.
        """
        shown = text.count(self.image_token)
        if shown != len(handles):
            raise BadConfiguration(f"the chat template shows {shown} images of {len(handles)}")
        rendered, following = Rendered(), iter(handles)
        edges = [0, *(reply.start for reply in replies), len(text)]
        for (start, stop), reply in zip(pairwise(edges), [None, *replies], strict=True):
            piece, *others = text[start:stop].split(self.image_token)
            anew = self._tokens.begins_anew(text[:start])
            self._add(rendered, piece, self._parts(text, reply), anew=anew)
            for piece in others:
                handle = next(following)
                placed = image_tokens(handle)
                first = len(rendered.ids)
                rendered.images.append(ImagePlace(handle, first, first + len(placed)))
                rendered.ids.extend(placed)
                rendered.parts.extend([None] * len(placed))
                self._add(rendered, piece, [], anew=self._tokens.begins_anew(""))
        return rendered

    def _parts(self, text: str, reply: Reply | None) -> list[tuple[int, int, Part]]:
        return self.format.parts(text[reply.start : reply.stop]) if reply else []

    def _add(
        self, rendered: Rendered, piece: str, parts: list[tuple[int, int, Part]], *, anew: bool
    ) -> None:
        """Add the tokens of a piece, which opens with the `parts` of a reply or with none."""
        marks, at = _Marks(parts), 0
        for section in self._tokens.sections(piece, anew=anew):
            # Behind the reply there is nothing left to mark.
            edges = [stop - at for stop in marks.stops] if at < marks.end else ()
            for run in self._tokens.runs(section, edges):
                rendered.ids.extend(run.ids)
                rendered.parts.extend(marks.of(run, at))
                at += run.size


class _Marks:
    """Tells which of the parts of a reply, one behind the other, tokens belong to."""

    def __init__(self, parts: Sequence[tuple[int, int, Part]]) -> None:
        self.stops = [stop for _, stop, _ in parts]
        self._parts: list[Part | None] = [*(part for _, _, part in parts), None]
        self.end = self.stops[-1] if parts else 0

    def of(self, run: Run, at: int) -> list[Part | None]:
        """The part of each token of a run that begins at `at`.

        A token that reaches into two parts is of the later one, and is learned where the reply
        ends within it.
        """
        if not run.stops:
            return [self._parts[bisect_right(self.stops, at)]] * len(run.ids)
        found: list[Part | None] = []
        begun = at
        for stop in run.stops:
            index = bisect_right(self.stops, at + stop - 1)
            ended = self._parts[-2] if begun < self.end else None
            found.append(self._parts[index] or ended)
            begun = at + stop
        return found


def shows_shortlist(template: str) -> bool:
    """Whether a chat template has a place for the shortlist behind a request."""
    return "message.likely" in template


def _image_token(processor: ProcessorMixin) -> str:
    token = getattr(processor, "image_token", None) or getattr(
        processor.tokenizer, "image_token", None
    )
    if not isinstance(token, str):
        raise BadConfiguration(f"{type(processor).__name__} does not say what its image token is")
    return token


def _end_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    return (tokenizer.eos_token,) if tokenizer.eos_token else ()
