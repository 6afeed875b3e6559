"""Adapter versions as zip archives in peft's format: out with their lineage, in from anywhere peft writes; and what can
be known of the lineage of one that comes in.

Knows archives and file names; whether an adapter fits is the engine's to say.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict, replace
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterRef, AdapterVersion, Lineage, refuse_damaged
from adapters.errors import InvalidAdapter

LINEAGE_FILE = "lineage.json"
_MOST_MEMBERS = 100
_MOST_LINEAGE = 8 * 1024**2
_PARAMETERS = ("r", "lora_alpha", "target_modules", "use_dora", "use_rslora", "num_virtual_tokens", "task_type")
_Text = Annotated[str, Field(max_length=1000)]
_RATIO = 100  # unpacked to packed; weights hardly shrink


def pack(version: AdapterVersion, ref: AdapterRef) -> bytes:
    """A version as a zip archive that peft loads once unpacked; `lineage.json` tells where it comes from. Raises
    AdapterFilesUnavailable."""
    refuse_damaged(ref)
    packed = io.BytesIO()
    lineage = {"method": "unknown"} if version.lineage is None else asdict(version.lineage)
    facts = {"version": version.version, "sha256": version.sha256, "created_at": version.created_at, **lineage}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, ref.at_hand() as folder:
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            archive.write(folder / name, name)
        archive.writestr(LINEAGE_FILE, json.dumps(facts, indent=1, default=str))
    return packed.getvalue()


def unpack(content: bytes) -> tuple[bytes, bytes, bytes | None]:
    """The config and the weights of an archive, wherever in it they lie together, and the record of lineage that an
    export from here has beside them; everything else is left alone.

    Raises:
        InvalidAdapter: it is no such archive, names a file outside of itself, or unpacks to far more than it is.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise InvalidAdapter("size", f"The archive holds {len(members)} files; {_MOST_MEMBERS} are the limit.")
            for member in members:
                path = PurePosixPath(member.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts:
                    raise InvalidAdapter("format", f"The archive names a file outside of itself: {str(path)[:200]}")
            found = {name: [m for m in members if PurePosixPath(m.filename).name == name] for name in _WANTED}
            for name, places in found.items():
                if len(places) != 1:
                    raise InvalidAdapter("format", f"The archive holds {name} {len(places)} times; once is needed.")
                if places[0].file_size > _RATIO * max(1, len(content)):
                    raise InvalidAdapter("size", f"{name} unpacks to far more than the archive holds.")
            config, weights = (_read(archive, found[name][0]) for name in _WANTED)
            records = [m for m in members if PurePosixPath(m.filename).name == LINEAGE_FILE]
            small = len(records) == 1 and records[0].file_size <= _MOST_LINEAGE
            return config, weights, _read(archive, records[0]) if small else None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InvalidAdapter("format", f"This is no zip archive that can be read: {error}") from error


_WANTED = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)


def lineage_of_upload(config: bytes, record: bytes | None) -> Lineage:
    """What can be known of a version that was trained elsewhere: what its config says, or the record that an export
    from here brings along, whose word is taken for it. What is malformed says nothing."""
    said = _object(config)
    method = str(said.get("peft_type") or "unknown").lower()[:100]
    parameters = {key: said[key] for key in _PARAMETERS if isinstance(said.get(key), int | float | str | bool | list)}
    base = said.get("base_model_name_or_path")
    known = Lineage(method, parameters=parameters, base=base if isinstance(base, str) else None, origin="uploaded")
    if record is None:
        return known
    try:
        return _Record.model_validate_json(record).lineage(known)
    except ValidationError:
        return known


class _Record(BaseModel):
    """``lineage.json`` as `pack` writes it; further fields are passed over."""

    method: _Text
    objective: _Text | None = None
    parameters: dict[str, Any] = {}
    seed: int | None = None
    dataset: _Text | None = None
    data_sha256: _Text | None = None
    base_fingerprint: _Text | None = None
    code_version: _Text | None = None
    examples: int | None = None
    steps: int | None = None
    trainable: int | None = None
    seconds: float | None = None
    final_loss: float | None = None
    job_id: _Text | None = None
    documents: tuple[_Text, ...] = ()
    document_sha256: dict[_Text, _Text] = {}

    def lineage(self, known: Lineage) -> Lineage:
        said = self.model_dump(exclude_unset=True)
        return known if self.objective is None else replace(known, **said, origin="imported")


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):  # the check of the adapter says so
        return {}
    return found if isinstance(found, dict) else {}


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise InvalidAdapter("size", f"{member.filename} is not as long as the archive says.")
    return content
