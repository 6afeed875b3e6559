"""Settings: from the environment, checked, and what the log makes of what clients send."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from app.local_server import local_server
from app.logs import configure_logs
from app.settings import Settings


def test_every_setting_has_a_help_text() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOREBASE_ADMIN_KEY", "")
    monkeypatch.setenv("LOREBASE_DATA", "elsewhere")
    settings = Settings()
    assert settings.admin_key is None
    assert settings.data == Path("elsewhere")


def test_admin_and_tenant_must_not_share_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOREBASE_ADMIN_KEY", "LOREBASE_DEFAULT_KEY"):
        monkeypatch.setenv(name, "one key for everybody")
    with pytest.raises(ValidationError, match="must differ"):
        Settings()


@pytest.mark.e2e
def test_a_key_from_the_environment_may_be_any_long_text() -> None:
    key = "a sentence with spaces, über 16"
    with local_server(default_key=key) as server:
        headers = {"Authorization": f"Bearer {key}".encode()}
        assert httpx.get(server.url + "/documents", headers=headers).status_code == 200


def test_what_a_client_sends_stays_on_one_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logs("text", "info")
        logging.getLogger("lorebase.test").info("request", extra={"path": "/a\n2026 INFO forged \x1b[2J"})
        written = capsys.readouterr().err
    finally:
        root.handlers[:], root.level = handlers, level
    assert written.count("\n") == 1
    assert "\x1b" not in written


def test_a_model_server_is_told_a_folder_where_it_sees_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "tenants" / "t" / "adapters" / "a"
    assert Settings(data=tmp_path / "data").path_there(folder) == str(folder.resolve())
    elsewhere = Settings(data=tmp_path / "data", openai_data="/lorebase")
    assert elsewhere.path_there(folder) == "/lorebase/tenants/t/adapters/a"
