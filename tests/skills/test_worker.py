"""The worker over real sockets: what each request is answered with, and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from llava_plus.skills import Mask
from llava_plus.skills.errors import DuplicateSkill
from llava_plus.skills.images import MAX_BYTES
from llava_plus.skills.wire import DEADLINE_HEADER
from llava_plus.skills.worker import create_app

from ..serving import TOYS, png, worker
from ..toy_skills import RELEASE, Hang, Look, Noop, Slow, Unready, Waking

SHA = "0" * 64


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    left_out = ("Unready", "Waking", "Die")
    with worker(*(toy() for name, toy in TOYS.items() if name not in left_out)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as client:
        yield client


def call(
    client: httpx.Client, name: str, seconds: float | str | None = 5, **body: Any
) -> httpx.Response:
    headers = {} if seconds is None else {DEADLINE_HEADER: str(seconds)}
    body = {"id": "call_1", "arguments": {}, **body}
    return client.post(f"/v1/skills/{name}", json=body, headers=headers)


def problem(response: httpx.Response) -> tuple[int, str, str]:
    error = response.json()["error"]
    return response.status_code, error["kind"], error["message"]


def upload(client: httpx.Client, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    assert client.put(f"/v1/images/{sha256}", content=data).status_code == 201
    return sha256


def test_lists_skills_with_their_limits(client: httpx.Client) -> None:
    listed = client.get("/v1/skills").json()
    cards = {card["spec"]["name"]: card for card in listed["skills"]}
    assert cards["noop"]["parallel"] == 4
    assert cards["noop"]["queue"] == 16
    assert cards["look"]["spec"]["parameters"]["required"] == ["image"]
    assert listed["max_image_bytes"] == MAX_BYTES


def test_runs_a_call(client: httpx.Client) -> None:
    response = call(client, "noop", arguments={"text": "hello"})
    assert response.status_code == 200
    assert response.json() == {
        "id": "call_1",
        "name": "noop",
        "text": "hello",
        "data": {"said": "hello"},
        "artifacts": [],
    }


def test_shows_the_skill_an_uploaded_image(client: httpx.Client) -> None:
    sha256 = upload(client, png("blue"))
    response = call(client, "look", arguments={"image": "img_1"}, images={"img_1": sha256})
    assert response.json()["text"] == "8 x 6, (0, 0, 255)"


def test_a_skill_that_draws_on_its_argument_changes_no_other_call(client: httpx.Client) -> None:
    given = {"arguments": {"image": "img_1"}, "images": {"img_1": upload(client, png("green"))}}
    assert call(client, "scribble", **given).status_code == 200
    assert call(client, "look", **given).json()["text"] == "8 x 6, (0, 128, 0)"


def test_a_made_image_is_fetched_as_bytes(client: httpx.Client) -> None:
    made = call(client, "paint", arguments={"colour": "red"}).json()["artifacts"]
    assert [artifact["label"] for artifact in made] == ["a colour"]
    fetched = client.get(f"/v1/images/{made[0]['image']['sha256']}")
    assert fetched.headers["content-type"] == "image/png"
    assert hashlib.sha256(fetched.content).hexdigest() == made[0]["image"]["sha256"]
    head = client.head(f"/v1/images/{made[0]['image']['sha256']}")
    assert head.headers["content-length"] == str(len(fetched.content))
    assert head.content == b""


def test_masks_come_and_go(client: httpx.Client) -> None:
    mask = Mask.from_array(np.eye(4, dtype=bool)).model_dump(mode="json")
    response = call(client, "cover", arguments={"mask": "mask_1"}, masks={"mask_1": mask})
    assert response.json()["data"] == {"area": 0.25}
    assert response.json()["artifacts"] == [{"label": "the same", "image": None, "mask": mask}]


def test_a_mask_that_does_not_fill_its_size_is_refused(client: httpx.Client) -> None:
    response = call(client, "cover", masks={"mask_1": {"size": [4, 4], "counts": "1"}})
    status, kind, message = problem(response)
    assert (status, kind) == (400, "BadInput")
    assert "masks.mask_1" in message


@pytest.mark.parametrize(
    ("name", "arguments", "status", "kind", "words"),
    [
        ("nobody", {}, 404, "UnknownSkill", "there is no skill 'nobody'"),
        ("noop", {"txt": "a"}, 422, "BadSkillUse", "txt: Extra inputs"),
        ("look", {"image": "img_9"}, 422, "BadSkillUse", "there is no image 'img_9' here"),
        ("refuse", {}, 424, "SkillFailed", "there is nothing to find here"),
        ("crash", {}, 500, "SkillFailed", "crash failed: RuntimeError: a secret"),
        ("crash", {"leave": True}, 500, "SkillFailed", "crash failed: SystemExit: goodbye"),
        ("nonsense", {}, 500, "SkillFailed", "returned int, not SkillOutput"),
        ("unwritable", {}, 500, "SkillFailed", "PydanticSerializationError"),
        ("unwritable", {"surrogate": True}, 500, "SkillFailed", "not JSON"),
    ],
)
def test_what_goes_wrong_is_a_status_and_a_kind(
    client: httpx.Client, name: str, arguments: dict[str, Any], status: int, kind: str, words: str
) -> None:
    response = call(client, name, arguments=arguments)
    assert problem(response)[:2] == (status, kind)
    assert words in problem(response)[2]
    assert "Traceback" not in response.text


def test_a_crash_does_not_cost_the_slot(client: httpx.Client) -> None:
    for _ in range(5):
        assert call(client, "crash", seconds=1).status_code == 500


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"id": 1, "arguments": {}}', b"\xff", b""])
def test_a_body_that_is_no_call_is_refused(client: httpx.Client, body: bytes) -> None:
    response = client.post("/v1/skills/noop", content=body)
    assert problem(response)[:2] == (400, "BadInput")


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
def test_a_deadline_that_is_none_is_refused(client: httpx.Client, seconds: str) -> None:
    assert problem(call(client, "noop", seconds=seconds))[:2] == (400, "BadInput")


def test_without_a_deadline_the_default_holds(client: httpx.Client) -> None:
    assert call(client, "noop", seconds=None).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("DELETE", "/v1/skills/noop")])
def test_other_paths_and_methods_are_told_in_the_same_form(
    client: httpx.Client, method: str, path: str
) -> None:
    status, kind, message = problem(client.request(method, path))
    assert (status, kind) in ((404, "BadInput"), (405, "BadInput"))
    assert path in message


def test_unknown_hashes_are_listed(client: httpx.Client) -> None:
    known = upload(client, png("pink"))
    images = {"img_1": SHA, "img_2": known, "img_3": "f" * 64}
    response = call(client, "noop", images=images)
    assert problem(response)[:2] == (409, "ImagesMissing")
    assert response.json()["error"]["missing"] == [SHA, "f" * 64]


def test_an_unknown_image_cannot_be_fetched(client: httpx.Client) -> None:
    assert problem(client.get(f"/v1/images/{SHA}"))[:2] == (404, "UnknownImage")
    assert client.head(f"/v1/images/{SHA}").status_code == 404


def test_an_upload_under_another_hash_is_refused(client: httpx.Client) -> None:
    status, kind, message = problem(client.put(f"/v1/images/{SHA}", content=png("cyan")))
    assert (status, kind) == (400, "BadInput")
    assert "damaged or cut short" in message
    cyan = hashlib.sha256(png("cyan")).hexdigest()
    assert client.head(f"/v1/images/{cyan}").status_code == 404


def test_an_upload_that_is_no_whole_image_is_refused(client: httpx.Client) -> None:
    for data in (b"not an image", png("gold")[:40]):
        sha256 = hashlib.sha256(data).hexdigest()
        assert problem(client.put(f"/v1/images/{sha256}", content=data))[:2] == (400, "BadInput")
        assert client.head(f"/v1/images/{sha256}").status_code == 404


def test_an_announced_oversized_upload_is_refused_before_it_is_sent(url: str) -> None:
    with connect(url) as wire:
        wire.sendall(put_head(SHA, length=MAX_BYTES + 1))
        assert b" 413 " in wire.recv(4096)


def test_an_oversized_upload_is_cut_off_while_it_streams(url: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 4 * MAX_BYTES:
            sent += 1 << 20
            yield bytes(1 << 20)

    with httpx.Client(base_url=url, timeout=10) as client:
        try:
            response = client.put(f"/v1/images/{SHA}", content=endless())
            assert problem(response)[:2] == (413, "TooLarge")
        except (httpx.WriteError, httpx.ReadError):
            pass  # the server hung up while we were still sending
    assert sent < 2 * MAX_BYTES


def test_an_upload_whose_sender_goes_away_leaves_nothing(url: str, client: httpx.Client) -> None:
    data = png("teal", width=300)
    sha256 = hashlib.sha256(data).hexdigest()
    with connect(url) as wire:
        wire.sendall(put_head(sha256, length=len(data)) + data[:-10])
    time.sleep(0.05)
    assert client.head(f"/v1/images/{sha256}").status_code == 404
    assert call(client, "noop").status_code == 200


def test_images_are_let_go_beyond_the_budget() -> None:
    with worker(Look(), store_bytes=2000) as url, httpx.Client(base_url=url) as client:
        hashes = [upload(client, png(colour, 16, 16)) for colour in ("red", "green", "blue")]
        held = [client.head(f"/v1/images/{sha256}").status_code for sha256 in hashes]
    assert held == [404, 200, 200]


def test_a_skill_that_hangs_holds_only_its_own_slot() -> None:
    with worker(Hang(), Noop()) as url, httpx.Client(base_url=url, timeout=10) as client:
        start = time.monotonic()
        assert problem(call(client, "hang", seconds=0.2))[:2] == (504, "DeadlineExceeded")
        assert time.monotonic() - start < 1
        assert call(client, "noop").status_code == 200

        message = problem(call(client, "hang", seconds=0.1))[2]
        assert "no free slot" in message
        assert "1 of 1 held by calls past their deadline" in message
        states = client.get("/readyz")
        assert states.status_code == 503
        assert states.json()["skills"]["hang"]["state"] == "stuck"
        assert states.json()["skills"]["noop"]["state"] == "ready"

        RELEASE.set()
        assert call(client, "hang").json()["text"] == "released"
        assert client.get("/readyz").status_code == 200


def test_calls_run_at_once_up_to_parallel() -> None:
    class Pair(Slow):
        parallel = 2

    with worker(Pair()) as url, httpx.Client(base_url=url, timeout=10) as client:
        start = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call, client, "slow", arguments={"seconds": 0.2}) for _ in "1234"]
        assert [done.result().status_code for done in calls] == [200] * 4
        assert 0.4 <= time.monotonic() - start < 0.8


def test_beyond_the_queue_is_429() -> None:
    with worker(Slow(), queue=1) as url, httpx.Client(base_url=url, timeout=10) as client:
        with ThreadPoolExecutor(3) as pool:
            calls = [pool.submit(call, client, "slow", arguments={"seconds": 0.3}) for _ in "123"]
        responses = sorted((done.result() for done in calls), key=lambda done: done.status_code)
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert problem(responses[2])[1] == "TooBusy"
        assert responses[2].headers["retry-after"] == "1"
        assert call(client, "slow", arguments={"seconds": 0}).status_code == 200


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    slow = Slow()
    with worker(slow) as url, httpx.Client(base_url=url, timeout=10) as client:
        first = threading.Thread(
            target=call, args=(client, "slow"), kwargs={"arguments": {"seconds": 1.0}}
        )
        first.start()
        time.sleep(0.1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{url}/v1/skills/slow",
                json={"id": "call_2", "arguments": {"seconds": 0}},
                timeout=0.1,
            )
        first.join()
        assert call(client, "slow", arguments={"seconds": 0}).status_code == 200
        assert slow.runs == 2


def test_is_ready_when_every_skill_is_set_up() -> None:
    waking = Waking()
    with (
        worker(Noop(), waking, ready=False) as url,
        httpx.Client(base_url=url, timeout=10) as client,
    ):
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        assert client.get("/readyz").json()["skills"]["waking"]["state"] == "starting"
        assert problem(call(client, "waking", seconds=0.1))[:2] == (504, "DeadlineExceeded")
        assert call(client, "noop").status_code == 200
        waking.woken.set()
        assert call(client, "waking").json()["text"] == "awake"
        assert client.get("/readyz").json()["ready"] is True


def test_a_skill_that_cannot_be_set_up_says_why() -> None:
    with worker(Unready(), Noop(), ready=False) as url, httpx.Client(base_url=url) as client:
        status, kind, message = problem(call(client, "unready"))
        assert (status, kind) == (503, "Refused")
        assert "OSError: the weights are not there" in message
        assert call(client, "noop").status_code == 200
        assert client.get("/readyz").json()["skills"]["unready"]["state"] == "broken"


def test_the_secret_is_asked_for() -> None:
    with worker(Noop(), secret="open sesame") as url, httpx.Client(base_url=url) as client:
        assert problem(call(client, "noop"))[:2] == (401, "BadSecret")
        assert problem(client.get("/v1/skills"))[:2] == (401, "BadSecret")
        client.headers["Authorization"] = "Bearer open sesame"
        assert call(client, "noop").status_code == 200


def test_two_skills_of_one_name_are_not_served() -> None:
    with pytest.raises(DuplicateSkill, match="noop"):
        create_app([Noop(), Noop()])


def test_the_error_body_is_what_the_protocol_says(client: httpx.Client) -> None:
    response = call(client, "refuse")
    assert json.loads(response.content) == {
        "error": {"kind": "SkillFailed", "message": "there is nothing to find here"}
    }


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=5)


def put_head(sha256: str, *, length: int) -> bytes:
    return (
        f"PUT /v1/images/{sha256} HTTP/1.1\r\nHost: worker\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
