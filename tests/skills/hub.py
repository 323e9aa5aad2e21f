"""A hub of models on loopback: the part of the Hugging Face protocol that fetching needs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

__all__ = ["hub_of"]

REVISION = "0123456789abcdef0123456789abcdef01234567"


def hub_of(folder: Path, *, hashes: dict[str, str] | None = None) -> FastAPI:
    """A hub whose repositories are the folders OWNER/NAME in `folder`.

    Numbers are said to be in large file storage, with the hashes that they have or with those
    given by file name.
    """
    app = FastAPI()

    def files(repository: str) -> list[Path]:
        found = sorted(path for path in (folder / repository).rglob("*") if path.is_file())
        if not found:
            headers = {"X-Error-Code": "RepoNotFound"}
            raise HTTPException(404, "Repository not found", headers)
        return found

    def describe(repository: str, path: Path) -> dict[str, Any]:
        name = path.relative_to(folder / repository).as_posix()
        data = path.read_bytes()
        told: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": "0" * 40}
        if path.suffix in (".safetensors", ".bin"):
            sha256 = (hashes or {}).get(name) or hashlib.sha256(data).hexdigest()
            told["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 100}
        return told

    def info(owner: str, name: str) -> dict[str, Any]:
        repository = f"{owner}/{name}"
        siblings = [describe(repository, path) for path in files(repository)]
        return {"id": repository, "sha": REVISION, "siblings": siblings, "private": False}

    def tree(owner: str, name: str) -> list[dict[str, Any]]:
        repository = f"{owner}/{name}"
        described = [describe(repository, path) for path in files(repository)]
        return [
            {"type": "file", "oid": "0" * 40, "size": one["size"], "path": one["rfilename"]}
            | ({"lfs": {**one["lfs"], "oid": one["lfs"]["sha256"]}} if "lfs" in one else {})
            for one in described
        ]

    def resolve(owner: str, name: str, path: str, request: Request) -> Response:
        file = folder / owner / name / path
        if file not in files(f"{owner}/{name}"):
            raise HTTPException(404, "Entry not found", {"X-Error-Code": "EntryNotFound"})
        data = file.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": REVISION,
            "Content-Length": str(len(data)),
        }
        return Response(b"" if request.method == "HEAD" else data, headers=headers)

    app.add_api_route("/api/models/{owner}/{name}", info)
    app.add_api_route("/api/models/{owner}/{name}/revision/{revision}", info)
    app.add_api_route("/api/models/{owner}/{name}/tree/{revision}", tree)
    app.add_api_route(
        "/{owner}/{name}/resolve/{revision}/{path:path}", resolve, methods=["GET", "HEAD"]
    )
    return app
