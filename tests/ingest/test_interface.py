"""The package's interface is what it says, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import ingest


def test_every_name_of_the_interface_is_there() -> None:
    assert len(set(ingest.__all__)) == len(ingest.__all__)
    for name in ingest.__all__:
        assert getattr(ingest, name)


def test_what_the_parsing_child_imports_loads_no_heavy_library() -> None:
    program = (
        "import sys, ingest, ingest.parsing.child; "
        "print(*{'torch', 'faiss', 'numpy', 'sentence_transformers', 'trafilatura', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
