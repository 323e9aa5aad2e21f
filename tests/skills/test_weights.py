"""Weights: what of a repository is wanted, whether it is all here, and fetching it from a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from llava_plus.skills.weights import Weights, _wanted

from ..serving import serving
from .hub import hub_of
from .tiny_captioners import save_blip
from .tiny_diffusion import save_controlnet, save_painter
from .tiny_embedders import save_clip

STABLE_DIFFUSION = """
.gitattributes README.md feature_extractor/preprocessor_config.json model_index.json
safety_checker/config.json safety_checker/model.fp16.safetensors safety_checker/model.safetensors
safety_checker/pytorch_model.bin scheduler/scheduler_config.json text_encoder/config.json
text_encoder/model.safetensors text_encoder/pytorch_model.bin tokenizer/merges.txt
tokenizer/vocab.json unet/config.json unet/diffusion_pytorch_model.non_ema.safetensors
unet/diffusion_pytorch_model.safetensors v1-5-pruned-emaonly.ckpt v1-5-pruned-emaonly.safetensors
vae/config.json vae/diffusion_pytorch_model.bin
""".split()
BLIP = """
README.md config.json model.safetensors preprocessor_config.json pytorch_model.bin
special_tokens_map.json tf_model.h5 tokenizer.json tokenizer_config.json vocab.txt
""".split()


def test_one_copy_of_the_numbers_is_wanted() -> None:
    assert set(_wanted(BLIP)) == set(BLIP) - {"README.md", "pytorch_model.bin", "tf_model.h5"}
    numbers = [name for name in _wanted(STABLE_DIFFUSION) if name.endswith(("s", ".bin", ".ckpt"))]
    assert sorted(numbers) == [
        "safety_checker/model.safetensors",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.bin",
    ]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repositories")
    save_blip(folder / "tiny" / "blip")
    save_painter(folder / "tiny" / "painter")
    save_controlnet(folder / "tiny" / "edges")
    (folder / "tiny" / "blip" / "tf_model.h5").write_bytes(b"for others")
    return folder


@pytest.mark.parametrize("name", ["blip", "painter"])
def test_a_folder_is_whole_until_a_part_is_gone(
    repositories: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    shutil.copytree(repositories / "tiny" / name, folder)
    assert Weights(str(folder)).is_present()
    next(folder.rglob("*.safetensors")).unlink()
    assert not Weights(str(folder)).is_present()


def test_a_shard_may_not_be_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    shards = {f"layer.{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert not Weights(str(tmp_path)).is_present()
    (tmp_path / "model-00002-of-00002.safetensors").touch()
    assert Weights(str(tmp_path)).is_present()


def test_what_was_never_fetched_is_not_here() -> None:
    assert not Weights("nobody/never-fetched").is_present()
    assert not Weights("not / a name").is_present()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with nothing fetched, and tiny models in its settings."""
    file = tmp_path / "settings.toml"
    file.write_text(
        '[skills.caption]\nmodel = "tiny/blip"\n[skills.generate]\nmodel = "tiny/painter"\n'
        '[skills.restyle]\nmodel = "tiny/painter"\nedges_model = "tiny/edges"\nregions_model = ""\n'
        '[skills.tag]\nmodel = "tiny/clip"\n'
    )
    environment = {**os.environ, "LLAVA_PLUS_CONFIG": str(file), "HF_HOME": str(tmp_path / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    return environment


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llava_plus.agent", "skills", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def _lacks(environment: dict[str, str]) -> dict[str, str]:
    rows = json.loads(_run(environment, "--json").stdout)
    return {row["name"]: row.get("lacks", "") for row in rows}


def test_pulled_weights_put_a_skill_on_offer(repositories: Path, settings: dict[str, str]) -> None:
    before = _lacks(settings)
    assert before["caption"] == "its weights tiny/blip are not here: llava-plus skills pull caption"
    assert before["detect"] == ""
    with serving(hub_of(repositories)) as url:
        pulled = _run({**settings, "HF_ENDPOINT": url}, "pull", "caption", "generate", "detect")
    assert pulled.returncode == 0, pulled.stderr
    assert "caption: tiny/blip, 0 MB in" in pulled.stdout
    assert pulled.stdout.count(": ready") == 2
    assert "detect: needs no weights that have to be fetched" in pulled.stdout
    assert "checking model.safetensors" in pulled.stderr
    after = _lacks(settings)
    assert after["caption"] == after["generate"] == ""
    assert "llava-plus skills pull edit" in after["edit"]
    assert not list(Path(settings["HF_HOME"]).rglob("tf_model.h5"))


def test_the_weights_of_the_skills_that_it_uses_are_pulled(
    repositories: Path, settings: dict[str, str]
) -> None:
    assert "llava-plus skills pull caption" in _lacks(settings)["ground_caption"]
    with serving(hub_of(repositories)) as url:
        pulled = _run({**settings, "HF_ENDPOINT": url}, "pull", "ground_caption")
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.index("caption: ready") < pulled.stdout.index("ground_caption: needs no")
    assert _lacks(settings)["ground_caption"] == ""


def test_the_weights_of_skills_that_only_add_to_it_are_pulled_where_they_are_to_be_had(
    repositories: Path, settings: dict[str, str]
) -> None:
    with serving(hub_of(repositories)) as url:
        settings |= {"HF_ENDPOINT": url}
        pulled = _run(settings, "pull", "overview")
        assert pulled.returncode == 0, pulled.stderr
        assert "caption: ready" in pulled.stdout
        assert "tag: left out, the weights 'tiny/clip' cannot be fetched" in pulled.stderr
        save_clip(repositories / "tiny" / "clip")
        pulled = _run(settings, "pull", "overview")
        shutil.rmtree(repositories / "tiny" / "clip")
    assert pulled.returncode == 0, pulled.stderr
    assert "tag: ready" in pulled.stdout
    assert _lacks(settings)["tag"] == ""


def test_all_repositories_of_a_skill_are_pulled(
    repositories: Path, settings: dict[str, str]
) -> None:
    lacks = "its weights tiny/painter and tiny/edges are not here: llava-plus skills pull restyle"
    assert _lacks(settings)["restyle"] == lacks
    with serving(hub_of(repositories)) as url:
        assert _run({**settings, "HF_ENDPOINT": url}, "pull", "generate").returncode == 0
        assert "its weights tiny/edges are not here" in _lacks(settings)["restyle"]
        pulled = _run({**settings, "HF_ENDPOINT": url}, "pull", "restyle")
    assert pulled.returncode == 0, pulled.stderr
    assert "restyle: tiny/painter, tiny/edges, " in pulled.stdout
    assert _lacks(settings)["restyle"] == ""


def test_other_bytes_than_the_hub_tells_of_are_refused(
    repositories: Path, settings: dict[str, str]
) -> None:
    with serving(hub_of(repositories, hashes={"model.safetensors": "0" * 64})) as url:
        pulled = _run({**settings, "HF_ENDPOINT": url}, "pull", "caption")
    assert pulled.returncode == 2
    assert "model.safetensors of 'tiny/blip' came with the hash" in pulled.stderr
    assert _lacks(settings)["caption"]


def test_a_repository_that_is_not_there_is_named(tmp_path: Path, settings: dict[str, str]) -> None:
    with serving(hub_of(tmp_path)) as url:
        pulled = _run({**settings, "HF_ENDPOINT": url}, "pull", "caption")
    assert pulled.returncode == 2
    assert "the weights 'tiny/blip' cannot be fetched" in pulled.stderr


def test_offline_says_so(settings: dict[str, str]) -> None:
    pulled = _run({**settings, "HF_HUB_OFFLINE": "1"}, "pull", "caption")
    assert pulled.returncode == 2
    assert "offline" in pulled.stderr
