"""A tenant's folder goes for good, whatever interrupts it, and no other one does."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from app.tenant_folders import TenantFolders

TENANT, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for tenant_id in (TENANT, OTHER):
        (tmp_path / tenant_id / "adapters").mkdir(parents=True)
        (tmp_path / tenant_id / "lorebase.db").write_text("rows")
    return tmp_path


class Forgotten(list[str]):
    """The ids of tenants that were forgotten elsewhere."""

    def __call__(self, tenant_id: str) -> bool:
        self.append(tenant_id)
        return True


def names(root: Path) -> set[str]:
    return {folder.name for folder in root.iterdir()}


def test_nothing_stays_of_a_tenant_that_is_removed(root: Path) -> None:
    forgotten = Forgotten()
    folders = TenantFolders(root, forgotten)
    folders.mark(TENANT)
    folders.erase(TENANT)
    assert names(root) == {OTHER}
    assert forgotten == [TENANT]


def test_a_removal_that_never_came_to_its_tenant_is_taken_back_at_the_next_start(root: Path) -> None:
    TenantFolders(root).mark(TENANT)
    TenantFolders(root).sweep(known={TENANT, OTHER})
    assert (root / TENANT / "lorebase.db").read_text() == "rows"
    assert names(root) == {TENANT, OTHER}


def test_a_removal_that_was_interrupted_is_finished_at_the_next_start(root: Path) -> None:
    forgotten = Forgotten()
    TenantFolders(root).mark(TENANT)
    TenantFolders(root, forgotten).sweep(known={OTHER})
    assert names(root) == {OTHER}
    assert forgotten == [TENANT]


def test_what_cannot_be_forgotten_elsewhere_is_tried_again_at_every_start_until_it_can(root: Path) -> None:
    folders = TenantFolders(root, lambda _: False)
    folders.mark(TENANT)
    folders.erase(TENANT)
    folders.sweep(known={OTHER})
    [left] = names(root) - {OTHER}
    assert not list((root / left).iterdir()), "its rows are gone, though their names may not be"
    TenantFolders(root, lambda _: True).sweep(known={OTHER})
    assert names(root) == {OTHER}


def test_a_folder_that_somebody_at_work_made_anew_goes_too(root: Path) -> None:
    folders = TenantFolders(root)
    folders.mark(TENANT)
    (root / TENANT / "training").mkdir(parents=True)
    folders.erase(TENANT)
    assert names(root) == {OTHER}
    folders.mark(OTHER)
    (root / OTHER / "training").mkdir(parents=True)
    folders.sweep(known=())
    assert names(root) == set()


def test_a_folder_that_nobody_removed_stays_though_no_tenant_is_known_for_it(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TenantFolders(root).sweep(known={OTHER})
    assert (root / TENANT / "lorebase.db").read_text() == "rows"
    assert TENANT in caplog.text
