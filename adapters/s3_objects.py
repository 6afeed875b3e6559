"""Objects in a bucket that speaks S3, reached through obstore, which only this module knows.

Where the service is and who asks there is said by the environment that all S3 clients read: AWS_ENDPOINT_URL,
AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; else a role of the machine.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from adapters.errors import AdapterFilesUnavailable, AdapterStoreUnavailable, UnsuitableAdapterStore
from adapters.object_store import BLOCK_BYTES, StoredObject, full, missing

try:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store
except ImportError as error:
    raise UnsuitableAdapterStore("An adapter store in S3 needs: pip install 'lorebase[s3]'") from error

_CONNECT_SECONDS, _SILENCE_SECONDS, _LONGEST_SECONDS = 3, 20, 3600
_TRIES = 2  # again, after the first
_RETRY_SECONDS = 15
_REST_SECONDS = 2.0  # in which a store that could not be reached is not asked again
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"})
_PAGE = 1000


class S3Objects:
    """The objects of a bucket under a prefix; see `adapters.object_store.ObjectStore`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                "allow_http": True,  # the endpoint says which it is
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
                "read_timeout": timedelta(seconds=_SILENCE_SECONDS),
                "timeout": timedelta(seconds=_LONGEST_SECONDS),
            },
            retry_config={"max_retries": _TRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        )
        self._lock = threading.Lock()
        self._away: tuple[float, str] | None = None  # since when, and what was said

    def put(self, key: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        with self._asking():
            obstore.put(self._store, key, content, chunk_size=BLOCK_BYTES)

    def read(self, key: str) -> bytes | None:
        """See `ObjectStore`."""
        with self._asking():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                self._refuse_without_bucket(error)
                return None

    def fetch(self, key: str, target: Path) -> str:
        """See `ObjectStore`."""
        digest = hashlib.sha256()
        with self._asking():
            try:
                found = obstore.get(self._store, key)
            except FileNotFoundError as error:
                self._refuse_without_bucket(error)
                raise missing(self.place, key) from None
            with target.open("wb") as file:
                for block in found.stream(min_chunk_size=BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
        return digest.hexdigest()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore`."""
        with self._asking():
            for page in obstore.list(self._store, prefix or None, chunk_size=_PAGE):
                for each in page:
                    yield StoredObject(each["path"], each["last_modified"].timestamp())

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore`."""
        every = list(keys)
        for first in range(0, len(every), _PAGE):
            with self._asking():
                obstore.delete(self._store, every[first : first + _PAGE])

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell what goes wrong as our errors; a store that could not be reached a moment ago is not waited for."""
        with self._lock:
            away = self._away
        if away is not None and time.monotonic() - away[0] < _REST_SECONDS:
            raise AdapterStoreUnavailable(away[1])
        try:
            yield
        except AdapterFilesUnavailable:
            raise
        except (BaseError, FileNotFoundError, PermissionError) as error:
            known = self._known(str(error))
            if _STATUS.search(str(error)) is None:
                with self._lock:
                    self._away = time.monotonic(), str(known)
            raise known from error

    def _refuse_without_bucket(self, error: FileNotFoundError) -> None:
        if "NoSuchBucket" in str(error):
            raise self._known(str(error)) from error

    def _known(self, text: str) -> AdapterFilesUnavailable:
        status = int(found[1]) if (found := _STATUS.search(text)) else None
        code = found[1] if (found := _CODE.search(text)) else ""
        if code in _FULL or status == 507:
            return full(self.place)
        if code == "NoSuchBucket":
            said = "there is no such bucket: make it"
        elif status in (401, 403):
            said = (
                f"it refuses ({code or status}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may "
                "list the bucket and get, put and delete its objects"
            )
        elif status is None:
            said = "it does not answer: check AWS_ENDPOINT_URL, AWS_REGION, the credentials and the network"
        else:
            said = f"it answers {status} {code}".rstrip() + ": see its own log"
        return AdapterStoreUnavailable(f"The store of adapter files at {self.place} cannot be used; {said}. Try again.")
