"""The advisor: what shortlist and planner say of the reply that comes next in a conversation."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from ..skills.wording import found_nothing
from .advice import Advice
from .conversation import Conversation, SkillMessage, UserMessage
from .planner import Asked, Outlook, Planner
from .shortlist import Shortlist

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Advisor"]


class Advisor:
    """Advises a model that was trained to read the shortlist; `familiar` are the skills it knows.

    With no `planner` it is the one that ships.
    """

    def __init__(
        self,
        shortlist: Shortlist,
        familiar: AbstractSet[str] = frozenset(),
        planner: Planner | None = None,
    ) -> None:
        self.shortlist = shortlist
        self._familiar = familiar
        self._planner = planner or Planner(shortlist.encoder)

    @classmethod
    def of(cls, model: PreTrainedModel, shortlist: Shortlist | None) -> Advisor | None:
        """For a model, which says in its configuration which skills it knows."""
        if shortlist is None:
            return None
        return cls(shortlist, frozenset(getattr(model.config, "familiar_skills", ())))

    def __call__(self, conversation: Conversation) -> Advice:
        """The advice on the next reply of the turn at hand."""
        said, *since = conversation.turn
        assert isinstance(said, UserMessage)
        results = [message for message in since if isinstance(message, SkillMessage)]
        image = conversation.has_image(len(conversation.messages) - len(since) - 1)
        near = self.shortlist.nearness(said.text, conversation.skills, image=image)
        called = frozenset(message.result.name for message in results)
        outlook = self._outlook(conversation, said, results, image=image)
        return Advice(near, self._familiar, called, outlook)

    def _outlook(
        self,
        conversation: Conversation,
        said: UserMessage,
        results: list[SkillMessage],
        *,
        image: bool,
    ) -> Outlook | None:
        """None where the last call brought nothing: the model has learned what goes on then."""
        last = results[-1].result if results else None
        if last and (last.error or found_nothing(last.text)):
            return None
        made = {handle for message in results for handle in message.masks}
        asked = Asked(
            said.text,
            image=image,
            marked=said.marks is not None,
            masked=bool(set(conversation.masks) - made),
        )
        names = [message.result.name for message in results]
        return self._planner(asked, names, (spec.name for spec in conversation.skills))
