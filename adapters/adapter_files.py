"""The files of an adapter's folder, as peft names them, and the hash that identifies weights.

Imports no model library, so that whoever only keeps adapters on disk loads none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damage(path: Path, sha256: str | None) -> str | None:
    """What is wrong with a file of an adapter that was whole once: missing, unreadable, or not what it was; None when
    nothing is.

    Args:
        sha256: what it was; None: any JSON.
    """
    try:
        if sha256 is None:
            json.loads(path.read_bytes())
        elif sha256_of(path) != sha256:
            return f"{path.name} is not what was registered"
    except (FileNotFoundError, NotADirectoryError):
        return f"{path.name} is missing" if path.parent.is_dir() else "their folder is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except (ValueError, RecursionError):
        return f"{path.name} is not what was registered"
    return None


def name_the_base(folder: Path, name: str) -> None:
    """Say in an adapter's config which base it was trained on."""
    path = folder / ADAPTER_CONFIG
    config = {**json.loads(path.read_text()), "base_model_name_or_path": name}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
