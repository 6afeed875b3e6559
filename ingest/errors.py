"""Errors of the ingest package.

IngestError
├── UnreadableDocument     a file cannot become text; the message is a reason a person can act on
├── InvalidDocument        a document's title, name, collection or metadata cannot be stored
├── InvalidFilter          a metadata filter is malformed; the message says where and what is allowed
├── UnknownDocument        no such document in this corpus
├── SameContentElsewhere   a document cannot take content that another one of its collection has
├── NothingToRetry         a document that did not fail cannot be tried again
├── DocumentNotReady       the document has no text (yet): it is pending, or it failed
├── SplitUnavailable       a way of splitting needs a model that is not there
├── CompletionFailed       a language model gave no (whole) answer
│   └── CompletionTooLong  it was given more than it can read
├── EmbedderUnavailable    the embedding model cannot be loaded
├── RerankerUnavailable    reranking was asked for, and there is no reranker or it cannot be loaded
├── IndexMismatch          the stored vectors were made by another embedder
├── DatabaseClosed         the database was closed while it was asked: its tenant is gone, or the service stops
│   └── LeaseLost          what was to be written is another process's work by now
├── DatabaseInUse          other processes serve the database, or one has it for itself
├── DatabaseUnavailable    the database server cannot be reached now
├── DatabaseFull           the database server has no room left
├── UnsuitableDatabase     a database server or its role cannot be used
├── DamagedData            what is stored is not what was stored: a checksum or an owner does not fit
└── IncompatibleDatabase   a database was written by a newer version of this software
"""

from __future__ import annotations


class IngestError(Exception):
    """Root of every error this package raises on purpose."""


class UnreadableDocument(IngestError):
    """A file cannot become text. The message names the reason and, where there is one, the way out."""


class InvalidDocument(IngestError):
    """A document's title, name, collection or metadata cannot be stored as it is."""


class InvalidFilter(IngestError):
    """A metadata filter is malformed. The message says where it is wrong and what is allowed there."""


class UnknownDocument(IngestError):
    """No such document in this corpus: never there, deleted, or the id is malformed."""


class SameContentElsewhere(IngestError):
    """A document cannot take content that another one of its collection has.

    Attributes:
        document_id: the other one.
    """

    def __init__(self, document_id: str) -> None:
        super().__init__(
            f"document {document_id} of the same collection has this content already: delete one of the two, or "
            "replace that one"
        )
        self.document_id = document_id


class NothingToRetry(IngestError):
    """A document that did not fail cannot be tried again."""


class DocumentNotReady(IngestError):
    """The document is there but has no text: it is still pending, or it failed."""


class SplitUnavailable(IngestError):
    """A way of splitting needs a model that is not there. The message says what to do."""


class CompletionFailed(IngestError):
    """A language model that was asked while splitting gave no answer, or did not come to its end."""


class CompletionTooLong(CompletionFailed):
    """A language model was given more than it can read at once."""


class EmbedderUnavailable(IngestError):
    """The embedding model cannot be loaded."""


class RerankerUnavailable(IngestError):
    """Reranking was asked for, and there is no reranker, or its model cannot be loaded."""


class IndexMismatch(IngestError):
    """The stored vectors were made by another embedder than the one at work."""


class DatabaseClosed(IngestError):
    """The database was closed while it was asked: its owner is gone, or the process ends."""


class LeaseLost(DatabaseClosed):
    """Another process does this work by now: nothing was written, and nothing is to be written for it here."""


class DatabaseInUse(IngestError):
    """Other processes serve the database, or one has it for itself; the message says what to do."""


class DatabaseUnavailable(IngestError):
    """The database server cannot be reached now. Attributes: ``retry_seconds``: when to try again."""

    retry_seconds = 2


class DatabaseFull(IngestError):
    """The database server has no room left; nothing was stored."""


class UnsuitableDatabase(IngestError):
    """A database server, or the role that is used there, does not do. The message says what does."""


class DamagedData(IngestError):
    """What is stored is not what was stored: a checksum or an owner does not fit. The message says of what."""


class IncompatibleDatabase(IngestError):
    """A database was written by a newer version of this software."""
