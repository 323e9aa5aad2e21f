"""Importing the page."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import inspect, sys
find, stubs = inspect.getfile, []
sys.addaudithook(
    lambda event, about: stubs.append(about) if event == "open" and ".pyi" in str(about[0]) else 0
)
from llava_plus.agent.page.stubs import without_stubs
with without_stubs():
    from llava_plus.agent.page.build import build_page
assert inspect.getfile is find
print(len(stubs))
"""


def test_gradio_is_imported_without_looking_at_its_type_stubs() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0", done.stderr
