"""How documents are split, as rows: SQL in, ``SplitConfig`` out.

Knows the tables of ``ingest.schema``. Every function takes an open connection and leaves transactions to its caller.
"""

from __future__ import annotations

import json

from ingest.database import Connection
from ingest.splitting import SplitConfig


def note_split(connection: Connection, document_id: str, note: str) -> None:
    """Note what did not go as the document's method of splitting means it."""
    connection.execute("UPDATE documents SET split = json_set(split, '$.note', ?) WHERE id = ?", (note, document_id))


def split_of(connection: Connection, document_id: str) -> SplitConfig | None:
    """How a document is split; ``None`` where that was not noted, and for one that is not there."""
    row = connection.execute("SELECT split FROM documents WHERE id = ?", (document_id,)).fetchone()
    return split_config(row["split"]) if row else None


def default_split(connection: Connection) -> SplitConfig | None:
    """How documents that bring nothing of their own are split; ``None`` where that was never set."""
    row = connection.execute("SELECT split FROM default_split").fetchone()
    return split_config(row["split"]) if row else None


def set_default_split(connection: Connection, split: SplitConfig) -> None:
    """Set how documents that bring nothing of their own are split from here on."""
    connection.execute(
        "INSERT INTO default_split (one, split) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET split = excluded.split",
        (split_json(split),),
    )


def split_json(split: SplitConfig) -> str:
    """A way of splitting as it is stored."""
    return json.dumps({"method": split.method, "size": split.size, "overlap": split.overlap})


def split_config(stored: str | None) -> SplitConfig | None:
    """A way of splitting as it was stored."""
    if stored is None:
        return None
    fields = json.loads(stored)
    return SplitConfig(fields["size"], fields["overlap"], method=fields["method"])
