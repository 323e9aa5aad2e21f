"""Text that is shown as it is."""

from __future__ import annotations

import re

from llava_plus.agent.page.escaping import answer, fenced, literal

from .served_page import HOSTILE


def test_text_is_escaped_as_far_as_it_speaks_markdown() -> None:
    assert literal("look at img_1, 3.5 m (wide)!") == "look at img_1, 3.5 m (wide)!"
    assert literal("# <b> *x* `y` ![z](u)") == r"\# \<b> \*x\* \`y\` !\[z\](u)"
    assert literal("1. a\n- b") == "1\\. a\n\\- b"
    assert fenced("a\n```\nb").startswith("````text\n")
    assert not re.search(r"<[a-z/!]|!\[", answer(HOSTILE + "<!-- x -->"))
    assert answer("**so** it is, 1 < 2") == "**so** it is, 1 < 2"
