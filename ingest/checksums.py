"""Checksums of stored rows, so that a bit turned on a disk is found when the row is read, and is no wrong answer.

CRC-32 finds accidents, not intent. Knows what of a row it covers; knows no search.
"""

from __future__ import annotations

import sqlite3
import zlib

from ingest.database import Row
from ingest.errors import DamagedData


def of_vector(vector: bytes) -> int:
    """The checksum of a stored vector."""
    return zlib.crc32(vector)


def of_chunk(text: str, start: int, end: int) -> int:
    """The checksum of a chunk: its text and where it stands."""
    return zlib.crc32(f"{start}:{end}:{text}".encode())


def check_chunk(row: Row) -> None:
    """Raise DamagedData when a row of ``chunks`` is not what was stored."""
    if row["sum"] is not None and row["sum"] != of_chunk(row["text"], row["start"], row["end"]):
        raise DamagedData(
            f"the stored text of document {row['document_id']} is damaged: delete the document and send it again, or "
            "restore a backup"
        )


def add_to_existing(connection: sqlite3.Connection) -> None:
    """A migration: compute the checksums of rows that have none."""
    connection.create_function("checksum_of_vector", 1, of_vector, deterministic=True)
    connection.create_function("checksum_of_chunk", 3, of_chunk, deterministic=True)
    connection.execute("UPDATE vectors SET sum = checksum_of_vector(vector)")
    connection.execute('UPDATE chunks SET sum = checksum_of_chunk(text, start, "end")')
