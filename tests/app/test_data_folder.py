"""What lies where the service keeps its data, and is not what should lie there, is told, and left as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.data_folder import DataFolderInUse, DataFolderUnusable, lock_data_folder
from app.folder_diagnosis import check_folder
from app.service import Service
from app.settings import Settings


@pytest.mark.parametrize("name", ["lock", "lorebase.db", "keys.env"])
def test_a_folder_where_a_file_should_be_is_named_by_the_start_and_the_doctor(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    _assert_told(Settings(data=tmp_path), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_where_the_tenants_folders_should_be_is_named_by_the_start_and_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "tenants").write_text("mine")
    _assert_told(Settings(data=tmp_path), tmp_path / "tenants")
    assert (tmp_path / "tenants").read_text() == "mine"


def test_a_file_where_the_data_folder_should_be_is_named_by_the_start_and_the_doctor(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DataFolderUnusable, match="data is no folder"):
        Service(Settings(data=tmp_path / "data"))
    assert [finding.state for finding in check_folder(Settings(data=tmp_path / "data"))] == ["wrong"]
    assert (tmp_path / "data").read_text() == "mine"


def test_a_folder_that_a_process_has_is_refused_to_others_until_it_lets_go(tmp_path: Path) -> None:
    with lock_data_folder(tmp_path), pytest.raises(DataFolderInUse, match="Stop it"), lock_data_folder(tmp_path):
        pass
    with lock_data_folder(tmp_path, shared=True), lock_data_folder(tmp_path, shared=True):
        pass


def _assert_told(settings: Settings, culprit: Path) -> None:
    with pytest.raises(DataFolderUnusable) as refused:
        Service(settings)
    [found] = check_folder(settings)
    assert str(culprit) in str(refused.value)
    assert "LOREBASE_DATA" in str(refused.value)
    assert (found.state, str(culprit) in found.detail, bool(found.mend)) == ("wrong", True, True)
