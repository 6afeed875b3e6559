"""An environment of its own for each peer, made once: the pinned packages it needs beyond the project's own.

The big libraries (torch, transformers, sentence-transformers, faiss, numpy) come from the project's environment by a
``.pth`` file: every peer runs on the very same encoder, and gigabytes are saved.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

REQUIREMENTS = {
    "langchain": ["langchain-core==1.8.3", "langchain-community==0.4.2", "langchain-huggingface==1.2.3",
                  "langchain-text-splitters==1.1.3", "rank-bm25==0.2.2"],
    "llamaindex": ["llama-index-core==0.14.25", "llama-index-embeddings-huggingface==0.8.0",
                   "llama-index-vector-stores-faiss==0.7.0", "llama-index-llms-huggingface==0.8.0",
                   "llama-index-retrievers-bm25==0.8.0"],
    "haystack": ["haystack-ai==3.4.1", "sentence-transformers-haystack==2.0.0", "transformers-haystack==2.0.0"],
    "txtai": ["txtai==9.14.0", "chonkie==1.7.0"],
}  # fmt: skip
LLAMACPP = "llamacpp"
_SERVERS = {LLAMACPP: ["xllamacpp==2026.10.11549", "gguf==0.19.0"]}  # a wheel with llama.cpp's own server in it
_DONE = "installed"


class NotInstalled(Exception):
    """A peer's packages cannot be installed; the message says why."""


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment in ``folder``, which is made where it is not there yet.

    Raises:
        NotInstalled: pip failed.
    """
    home = folder / peer
    python = home / "bin" / "python"
    there = (home / _DONE).is_file() and (home / _DONE).read_text() == _wanted(peer)
    if not there:
        venv.create(home, clear=True, with_pip=False)
    own = sysconfig.get_paths()["purelib"]  # of the environment that asks, which may be another one each time
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    (packages / "project.pth").write_text(own + "\n")
    if there:
        return python
    # torch is named, so that nothing brings another one.
    command = [str(python), "-m", "pip", "install", "--no-input", "--quiet", "torch==2.13.0", *_packages(peer)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstalled(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    (home / _DONE).write_text(_wanted(peer))
    return python


def _wanted(peer: str) -> str:
    return "\n".join([sys.version, *_packages(peer)])


def _packages(peer: str) -> list[str]:
    return {**REQUIREMENTS, **_SERVERS}[peer]
