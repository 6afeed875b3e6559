"""The keys of the first start: whatever ends it, the next one leaves keys that open something, and tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.keys_file import KEYS_FILE, drop_unknown, first_keys
from app.settings import Settings
from app.tenants import Tenant, TenantDirectory
from ingest import Database


class Died(Exception):
    """Stands for the end of the process."""


class Dying(TenantDirectory):
    """A directory whose process ends before it makes a tenant."""

    def create(self, name: str, key: str | None = None) -> tuple[Tenant, str]:
        raise Died


def kept(data: Path) -> dict[str, str]:
    lines = (data / KEYS_FILE).read_text().splitlines()
    assert len({line.partition("=")[0] for line in lines}) == len(lines), "one key under each name"
    return {name: key for name, _, key in (line.partition("=") for line in lines)}


def test_a_first_start_that_died_between_its_keys_leaves_none_that_nobody_knows(
    central: Database, tmp_path: Path
) -> None:
    with pytest.raises(Died):
        first_keys(Dying(central), Settings(data=tmp_path))
    directory = TenantDirectory(central)
    made = first_keys(directory, Settings(data=tmp_path))
    admin, default = (kept(tmp_path)[name] for name in ("LOREBASE_ADMIN_KEY", "LOREBASE_DEFAULT_KEY"))
    of_admin, of_default = directory.keys.principal(admin), directory.keys.principal(default)
    assert of_admin is not None
    assert of_admin.tenant_id is None
    assert of_default is not None
    assert of_default.tenant_id == directory.tenants()[0].id
    assert made == {"LOREBASE_DEFAULT_KEY": default}, "the other one opens something already"


def test_keys_that_were_written_and_never_accepted_are_replaced(central: Database, tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).write_text("# mine\nLOREBASE_ADMIN_KEY=never-accepted\nLOREBASE_DEFAULT_KEY=nor-this\n")
    made = first_keys(TenantDirectory(central), Settings(data=tmp_path))
    told = "".join(f"{name}={key}\n" for name, key in made.items())
    assert (tmp_path / KEYS_FILE).read_text() == "# mine\n" + told


def test_what_a_crash_left_of_rewriting_the_file_is_deleted(central: Database, tmp_path: Path) -> None:
    (tmp_path / "keys.tmp").write_text("LOREBASE_ADMIN_KEY=half-of-a-k")
    drop_unknown(tmp_path, TenantDirectory(central).keys)
    assert not (tmp_path / "keys.tmp").exists()
