"""Errors of the driver, raised as those of this package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from ingest.errors import DamagedData, DatabaseClosed, DatabaseFull, DatabaseUnavailable

_LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.IdleInTransactionSessionTimeout)


@contextmanager
def told() -> Iterator[None]:
    """Raise errors of the driver as those of this package."""
    try:
        yield
    except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
        raise DatabaseFull("The database server has no room left. Nothing was stored; try again later.") from error
    except PoolClosed as error:
        raise DatabaseClosed("the database is closed") from error
    except psycopg.errors.LockNotAvailable as error:
        raise DatabaseUnavailable("Another process is changing the same rows and does not end; try again.") from error
    except (*_LOST, PoolTimeout) as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {_first_line(error)}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedData("what the database holds was not stored so: restore a backup") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
