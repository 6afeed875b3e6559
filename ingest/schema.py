"""The tables of one tenant's documents, as numbered migrations for ``ingest.database.Database``.

A released script is never edited; a change is a new one.
"""

from __future__ import annotations

from typing import Final

from ingest import checksums, keyword_index
from ingest.database import Migration

DOCUMENTS: Final = "documents"
"""The component these migrations belong to."""

DOCUMENT_MIGRATIONS: Final[list[Migration]] = [
    """
    CREATE TABLE documents (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of arrival, never reused
        id TEXT NOT NULL UNIQUE,
        collection TEXT NOT NULL,
        title TEXT,                                -- as given, or else as the file says
        name TEXT NOT NULL,                        -- the file's
        media_type TEXT,                           -- NULL until parsed
        is_text INTEGER NOT NULL,                  -- 1: text to be kept exactly, 0: a file to be parsed
        metadata TEXT NOT NULL,                    -- a JSON object
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        characters INTEGER NOT NULL DEFAULT 0,
        chunks INTEGER NOT NULL DEFAULT 0,
        pages INTEGER NOT NULL DEFAULT 0,
        status TEXT NOT NULL CHECK (status IN ('pending', 'ready', 'failed')),
        error TEXT,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        UNIQUE (collection, sha256, is_text)
    );
    CREATE INDEX documents_by_status ON documents (status, number);

    CREATE TABLE originals (
        document_id TEXT PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
        content BLOB NOT NULL
    );

    CREATE TABLE texts (
        document_id TEXT PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
        text TEXT NOT NULL,
        pages TEXT NOT NULL,                       -- JSON: [[number, start, end], ...]
        headings TEXT NOT NULL                     -- JSON: [[start, level, title], ...]
    );

    CREATE TABLE chunks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused, so that a stale index finds nothing wrong
        document_id TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        start INTEGER NOT NULL,                    -- half-open offsets in code points
        "end" INTEGER NOT NULL,
        page INTEGER,
        section TEXT,
        text TEXT NOT NULL,                        -- texts.text[start:end], so that a search reads no whole document
        UNIQUE (document_id, position)
    );

    CREATE TABLE vectors (
        chunk INTEGER PRIMARY KEY REFERENCES chunks (number) ON DELETE CASCADE,
        vector BLOB NOT NULL                       -- float32, little-endian
    );

    CREATE TABLE index_facts (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    );
    """,
    """
    ALTER TABLE documents ADD COLUMN split TEXT;   -- JSON: {"method", "size", "overlap", "note"}; NULL: not noted then

    CREATE TABLE default_split (                   -- of documents that bring none; at most one row
        one INTEGER PRIMARY KEY CHECK (one = 1),
        split TEXT NOT NULL                        -- JSON: {"method", "size", "overlap"}
    );
    """,
    # The keyword index. Its rows are those of chunks: FTS5 keeps the terms and reads the text where it stands.
    """
    ALTER TABLE chunks ADD COLUMN title TEXT NOT NULL DEFAULT '';        -- the document's, to be found by
    ALTER TABLE chunks ADD COLUMN extra_terms TEXT NOT NULL DEFAULT '';  -- see ingest.keyword_index

    CREATE VIRTUAL TABLE keywords USING fts5 (
        title, section, text, extra_terms,
        content = 'chunks', content_rowid = 'number', tokenize = 'porter unicode61 remove_diacritics 2'
    );
    """,
    keyword_index.index_existing,
    """
    CREATE TRIGGER keywords_of_new_chunk AFTER INSERT ON chunks BEGIN
        INSERT INTO keywords (rowid, title, section, text, extra_terms)
        VALUES (new.number, new.title, new.section, new.text, new.extra_terms);
    END;

    CREATE TRIGGER keywords_of_deleted_chunk AFTER DELETE ON chunks BEGIN
        INSERT INTO keywords (keywords, rowid, title, section, text, extra_terms)
        VALUES ('delete', old.number, old.title, old.section, old.text, old.extra_terms);
    END;

    CREATE TRIGGER keywords_of_changed_chunk AFTER UPDATE OF title, section, text, extra_terms ON chunks BEGIN
        INSERT INTO keywords (keywords, rowid, title, section, text, extra_terms)
        VALUES ('delete', old.number, old.title, old.section, old.text, old.extra_terms);
        INSERT INTO keywords (rowid, title, section, text, extra_terms)
        VALUES (new.number, new.title, new.section, new.text, new.extra_terms);
    END;
    """,
    """
    CREATE TABLE replacements (                    -- what is to take the place of a document's content
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        document_id TEXT NOT NULL UNIQUE REFERENCES documents (id) ON DELETE CASCADE,
        collection TEXT NOT NULL,
        title TEXT,
        name TEXT NOT NULL,
        is_text INTEGER NOT NULL,
        metadata TEXT NOT NULL,
        split TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        content BLOB NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'failed')),
        error TEXT,
        created_at TEXT NOT NULL
    );

    CREATE TABLE staged (                          -- parsed and split, not yet embedded as a whole
        document_id TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        revision INTEGER NOT NULL,                 -- of replacements; 0: the document as it was first sent
        parsed BLOB NOT NULL,                      -- ingest.parsing.wire
        note TEXT,                                 -- what did not go as the method of splitting means it
        chunks INTEGER NOT NULL,
        embedded INTEGER NOT NULL,                 -- so many of them, the longest first
        embedder TEXT NOT NULL,                    -- made the vectors so far
        PRIMARY KEY (document_id, revision)
    );

    CREATE TABLE staged_chunks (
        document_id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        rank INTEGER NOT NULL,                     -- 0 is the longest, so that a portion pads little
        position INTEGER NOT NULL,
        chunk TEXT NOT NULL,                       -- JSON
        input TEXT NOT NULL,                       -- what is embedded
        PRIMARY KEY (document_id, revision, rank),
        FOREIGN KEY (document_id, revision) REFERENCES staged ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE staged_vectors (
        document_id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        rank INTEGER NOT NULL,                     -- of the first of them
        vectors BLOB NOT NULL,                     -- float32 [n, dimension], little-endian
        PRIMARY KEY (document_id, revision, rank),
        FOREIGN KEY (document_id, revision) REFERENCES staged ON DELETE CASCADE
    ) WITHOUT ROWID;
    """,
    # Found when read: a bit that a disk has turned. The database itself checks only how its pages hang together.
    """
    ALTER TABLE vectors ADD COLUMN sum INTEGER;    -- ingest.checksums; NULL: not known
    ALTER TABLE chunks ADD COLUMN sum INTEGER;
    DROP TABLE IF EXISTS next_vectors;             -- of a `lorebase reindex` under way, which begins again
    """,
    checksums.add_to_existing,
]
