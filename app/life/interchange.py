"""Adapter versions as zip archives in peft's format: out with their lineage, in from anywhere peft writes.

Knows archives and file names; whether an adapter fits is the engine's to say.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import PurePosixPath

from adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterRef, AdapterVersion
from adapters.errors import InvalidAdapter

LINEAGE_FILE = "lineage.json"
_MOST_MEMBERS = 100
_RATIO = 100  # unpacked to packed; weights hardly shrink


def pack(version: AdapterVersion, ref: AdapterRef) -> bytes:
    """A version as a zip archive that peft loads once unpacked; `lineage.json` tells where it comes from."""
    packed = io.BytesIO()
    lineage = {"method": "uploaded"} if version.lineage is None else asdict(version.lineage)
    facts = {"version": version.version, "sha256": version.sha256, "created_at": version.created_at, **lineage}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            archive.write(ref.folder / name, name)
        archive.writestr(LINEAGE_FILE, json.dumps(facts, indent=1, default=str))
    return packed.getvalue()


def unpack(content: bytes) -> tuple[bytes, bytes]:
    """The config and the weights of an archive, wherever in it they lie together; everything else is left alone.

    Raises:
        InvalidAdapter: it is no such archive, or unpacks to far more than it is.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise InvalidAdapter("size", f"The archive holds {len(members)} files; {_MOST_MEMBERS} are the limit.")
            found = {name: [m for m in members if PurePosixPath(m.filename).name == name] for name in _WANTED}
            for name, places in found.items():
                if len(places) != 1:
                    raise InvalidAdapter("format", f"The archive holds {name} {len(places)} times; once is needed.")
                if places[0].file_size > _RATIO * max(1, len(content)):
                    raise InvalidAdapter("size", f"{name} unpacks to far more than the archive holds.")
            config, weights = (_read(archive, found[name][0]) for name in _WANTED)
            return config, weights
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InvalidAdapter("format", f"This is no zip archive that can be read: {error}") from error


_WANTED = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise InvalidAdapter("size", f"{member.filename} is not as long as the archive says.")
    return content
