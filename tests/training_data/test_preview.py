"""`llava-plus data preview`: what a person sees of a record, and what training learns of it."""

from __future__ import annotations

import html
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.record import Record
from llava_plus.model.shipped import embedded_folder
from llava_plus.skills.calls import Artifact, SkillResult, SkillUse
from llava_plus.skills.discovery import load_skill
from llava_plus.skills.errors import BadInput
from llava_plus.skills.geometry import Mask
from llava_plus.skills.images import ImageRef
from llava_plus.training_data.commands.data import command
from llava_plus.training_data.preview.shown import chosen
from llava_plus.training_data.preview.terminal import print_record, print_tokens
from llava_plus.training_data.preview.tokens import parts_of, stretches
from llava_plus.training_data.sequences import Sequences
from PIL import Image
from rich.console import Console

IMAGE = ImageRef(sha256="0" * 64, media_type="image/png", width=60, height=40)
EVIL = '<script>alert("x")</script> </b><img src=x onerror=alert(1)> <|end|> ☂ 日本'


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    return Sequences()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three records; the first reads a text, outlines a thing, and makes an image."""
    folder = tmp_path_factory.mktemp("preview")
    Image.new("RGB", (60, 40), "red").save(folder / "a.png")
    area = np.zeros((40, 60), bool)
    area[10:30, 10:40] = True
    skills = tuple(load_skill(name).spec for name in ("ocr", "segment", "adjust"))
    calls = (
        SkillUse(id="1", name="ocr", arguments={"image": "img_1"}),
        SkillUse(id="2", name="segment", arguments={"image": "img_1", "labels": ["sign"]}),
    )
    made = (Artifact(label="sign", mask=Mask.from_array(area)),)
    said = (
        Conversation(skills=skills)
        .ask("What does it say? Outline it.", [IMAGE])
        .reply(AssistantMessage(thoughts="I read it first.", skill_uses=calls))
        .add_result(SkillResult(id="1", name="ocr", text=f"Read 1 line:\n{EVIL}"))
        .add_result(SkillResult(id="2", name="segment", text="Outlined it.", artifacts=made))
        .reply(AssistantMessage(thoughts="I have read it.", text=f"It says: {EVIL}"))
    )
    short = Conversation().ask("Hi.").reply(AssistantMessage(text="Hello."))
    records = [
        Record.of(said, {"img_1": "a.png"}, id="sign"),
        Record.of(said, {"img_1": "gone.png"}, id="gone"),
        Record.of(short, {}, id="short"),
    ]
    lines = [*(record.to_line() for record in records), "no record"]
    (folder / "records.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "records.jsonl"


def run(*arguments: object) -> Result:
    given = ["preview", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(command, given, catch_exceptions=False)


def test_a_record_is_shown_by_its_place_its_id_or_with_those_behind_it(path: Path) -> None:
    told = run(path).output
    for part in (
        "records.jsonl:1 sign",
        "I read it first.",
        'segment(image="img_1", labels=["sign"])',
        "Made mask_1 (sign).",
        "60 x 40",
    ):
        assert part in told
    assert "Hello." in run(path, "--number", 3).output
    assert "Hello." in run(path, "--id", "short").output
    both = run(path, "--number", 2, "--count", 2).output
    assert "gone.png" in both
    assert "Hello." in both


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--id", "nobody"), "no record with the id 'nobody'"),
        (("--number", 9), "no record at place 9"),
        (("--number", 4), "records.jsonl:4 is no record"),
    ],
)
def test_what_is_not_there_is_told(path: Path, options: tuple[object, ...], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        run(path, *options)


def test_an_image_is_a_thumbnail_of_half_blocks_where_there_are_colours(path: Path) -> None:
    (shown,) = chosen(path)
    out = io.StringIO()
    print_record(Console(file=out, width=100, color_system="truecolor", force_terminal=True), shown)
    assert out.getvalue().count("▀") == 48 * 16
    assert "38;2;255;0;0;48;2;255;0;0" in out.getvalue()
    assert "\x1b]" not in out.getvalue()


def test_the_tokens_spell_the_sequence_and_are_told_apart(path: Path, sequences: Sequences) -> None:
    (shown,) = chosen(path)
    rendered = sequences.of(shown.record, shown.sizes)
    tokenizer = sequences.renderer.tokenizer
    shown_as = stretches(rendered, tokenizer)
    tokens = [token for stretch in shown_as for token in stretch.tokens]
    assert [token.id for token in tokens] == rendered.ids
    assert [token.place for token in tokens] == list(range(len(tokens)))
    whole = tokenizer.decode(rendered.ids, skip_special_tokens=False)
    assert "".join(token.text for token in tokens).replace("·", "") == whole
    learned = [(one.part, "".join(t.text for t in one.tokens)) for one in shown_as if one.part]
    assert [part for part, _ in learned] == ["call", "stop", "answer", "stop"]
    assert '"name": " segment"' in learned[0][1]
    assert learned[2][1].startswith(" It says:")
    (image,) = [one for one in shown_as if one.image]
    assert (image.image, len(image.tokens)) == ("img_1", 16)
    assert sum(parts_of(rendered).values()) == len(tokens)
    out = io.StringIO()
    print_tokens(Console(file=out, width=200, color_system=None), shown_as)
    assert "[img_1: 16 tokens]" in out.getvalue()


class _Read(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tokens: list[tuple[str, str]] = []
        self._kind = ""
        self._title: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        given = dict(attrs)
        if tag == "span":
            self._kind = given.get("class") or ""
        self._title = given.get("title") if tag == "b" else None

    def handle_data(self, data: str) -> None:
        if self._title and self._title.startswith("token "):
            self.tokens.append((self._kind, data))
            self._title = None


@pytest.fixture(scope="module")
def page(path: Path) -> str:
    out = path.with_name("out.html")
    assert run(path, "--count", 3, "--html", out).output == f"{out}: 3 records\n"
    return out.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else_and_nothing_in_it_runs(page: str) -> None:
    read = _Read()
    read.feed(page)
    assert set(read.tags).isdisjoint({"script", "iframe", "object", "link", "base", "form"})
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    sources = [value for name, value in read.attributes if name in ("src", "href")]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "default-src 'none'" in page
    assert html.escape(EVIL.partition("<|end|>")[0], quote=False) in page.replace("&#34;", '"')


def test_the_page_shows_every_token_with_its_number_and_part(
    page: str, path: Path, sequences: Sequences
) -> None:
    read = _Read()
    read.feed(page)
    wanted = []
    for shown in chosen(path, count=3):
        rendered = sequences.of(shown.record, shown.sizes)
        for stretch in stretches(rendered, sequences.renderer.tokenizer):
            if not stretch.image:
                kind = stretch.part or "other"
                wanted += [(kind, token) for token in stretch.tokens]
    assert read.tokens == [(kind, token.text.replace("\n", "↵\n")) for kind, token in wanted]
    ids = [int(number) for number in re.findall(r'title="token (\d+), at', page)]
    assert ids == [token.id for _, token in wanted]
    for kind in ("thought", "call", "answer", "stop", "other", "place"):
        assert f'<span class="{kind}">' in page


def test_thoughts_are_a_shade_of_their_own_where_the_template_writes_them(
    path: Path, tmp_path: Path
) -> None:
    """The processor of the embedded model, with another template and without any weights."""
    for file in embedded_folder().glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = (embedded_folder() / "chat_template.jinja").read_text(encoding="utf-8")
    begun = "{%- generation -%}"
    written = (
        "{%- if message.reasoning_content -%}<t>{{ message.reasoning_content }}</t>{% endif %}"
    )
    (tmp_path / "chat_template.jinja").write_text(
        template.replace(begun, begun + written), encoding="utf-8"
    )
    out = tmp_path / "page.html"
    run(path, "--html", out, "--lmm", tmp_path)
    read = _Read()
    read.feed(out.read_text(encoding="utf-8"))
    thoughts = "".join(text for kind, text in read.tokens if kind == "thought")
    assert thoughts.startswith("<t>I read it first.</t>")
    assert thoughts.rstrip().endswith("<t>I have read it.</t>")


def test_the_page_shows_images_findings_and_what_is_missing(page: str) -> None:
    assert "img_1, as segment saw it" in page
    assert "there is no file" in page
    assert "thoughts are not learned" in page
    assert page.count("<article>") == 3
