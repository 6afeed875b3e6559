"""`lorebase tenants`: the admin's commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from app.client import LorebaseClient
from app.schemas import TenantResponse
from app.terminal.failures import CommandFailed, Exit, Unusable
from app.terminal.output import table
from app.terminal.session import Session, on_service

group = typer.Typer(no_args_is_help=True, add_completion=False, help="Tenants and their keys; needs the admin key.")
keys = typer.Typer(no_args_is_help=True, add_completion=False, help="Keys of a tenant.")
group.add_typer(keys, name="keys")
TenantName = Annotated[str, typer.Argument(help="The tenant's name or id.")]


@group.command("list")
@on_service(admin=True)
def list_tenants(session: Session) -> None:
    """All tenants, oldest first."""
    found = session.client.tenants()
    rows = [(t.id, t.name, f"{t.created_at:%Y-%m-%d %H:%M}") for t in found.tenants]
    session.output.result(found, table(("id", "name", "since"), rows, "There are no tenants."))


@group.command()
@on_service(admin=True, creates=True)
def create(session: Session, name: Annotated[str, typer.Argument(help="A name for people.")]) -> None:
    """Make a tenant. Its key is shown this once."""
    made = session.client.create_tenant(name)
    session.output.result(made, f"{made.name} has the id {made.id}.", f"Its key, shown this once: {made.api_key}")


@group.command()
@on_service(admin=True)
def delete(
    session: Session,
    tenant: TenantName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
) -> None:
    """Erase a tenant: its keys, documents, adapters and jobs."""
    found = tenant_named(session.client, tenant)
    if not yes:
        _ask_whether(f"Erase {found.name} with all its documents, adapters and keys?", session)
    session.client.delete_tenant(found.id)
    session.output.result({"deleted": found.id, "name": found.name}, f"{found.name} is erased.")


@group.command()
@on_service(admin=True)
def show(session: Session, tenant: TenantName) -> None:
    """One tenant with the limits that hold for it."""
    found = session.client.tenant(tenant_named(session.client, tenant).id)
    rows = [
        (name, "unlimited" if value is None else value, "its own" if name in found.overrides else "")
        for name, value in found.limits.model_dump().items()
    ]
    session.output.result(found, f"{found.name} ({found.id})", table(("limit", "value", ""), rows, ""))


@group.command()
@on_service(admin=True)
def limit(
    session: Session,
    tenant: TenantName,
    limits: Annotated[list[str], typer.Argument(help="NAME=NUMBER, NAME=unlimited, or NAME=default.")],
) -> None:
    """Set limits of one tenant, such as documents=1000."""
    given: dict[str, Any] = {}
    for each in limits:
        name, _, value = each.partition("=")
        if not value.isdigit() and value not in ("unlimited", "default"):
            raise Unusable(f"{each}: say NAME=NUMBER, NAME=unlimited, or NAME=default.")
        given[name] = int(value) if value.isdigit() else None if value == "default" else value
    found = session.client.change_limits(tenant_named(session.client, tenant).id, **given)
    session.output.result(found, f"The limits of {found.name} are set.")


@keys.command("list")
@on_service(admin=True)
def list_keys(session: Session, tenant: TenantName) -> None:
    """A tenant's keys, oldest first; what a key is, is shown only when it is made."""
    found = session.client.keys(tenant_named(session.client, tenant).id)
    rows = [
        (
            key.id, key.name, ", ".join(key.scopes), ", ".join(key.collections or ()) or "all",
            f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "", "revoked" if key.revoked_at else "",
        )
        for key in found.keys
    ]  # fmt: skip
    session.output.result(found, table(("id", "name", "scopes", "collections", "expires", ""), rows, "It has none."))


@keys.command("add")
@on_service(admin=True)
def add_key(
    session: Session,
    tenant: TenantName,
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="ask, ingest, train or admin; may be repeated.")] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Only this collection; may be repeated.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="How long it opens anything.")] = None,
) -> None:
    """Make a further key for a tenant. It is shown this once."""
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    made = session.client.add_key(
        tenant_named(session.client, tenant).id, name=name, scopes=scope or None, collections=collection or None,
        expires_at=expires,
    )  # fmt: skip
    session.output.result(made, f"The key {made.id}, shown this once: {made.api_key}")


@keys.command("rotate")
@on_service(admin=True)
def rotate_key(
    session: Session,
    tenant: TenantName,
    key_id: Annotated[str, typer.Argument(help="Its id.")],
    overlap: Annotated[float | None, typer.Option(min=0, help="Seconds the old key goes on; a day by default.")] = None,
) -> None:
    """Make a key that opens the same as another, which goes on for a while. It is shown this once."""
    made = session.client.rotate_key(tenant_named(session.client, tenant).id, key_id, overlap_seconds=overlap)
    session.output.result(
        made,
        f"The key {made.id}, shown this once: {made.api_key}",
        f"The old one, {made.replaces}, ends {made.old_expires_at:%Y-%m-%d %H:%M} UTC.",
    )


@keys.command("revoke")
@on_service(admin=True)
def revoke_key(session: Session, tenant: TenantName, key_id: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Revoke a key at once."""
    session.client.revoke_key(tenant_named(session.client, tenant).id, key_id)
    session.output.result({"revoked": key_id}, f"The key {key_id} is revoked.")


def tenant_named(client: LorebaseClient, wanted: str) -> TenantResponse:
    """A tenant by its name or id. Raises CommandFailed."""
    for each in client.tenants().tenants:
        if wanted in (each.name, each.id):
            return each
    raise CommandFailed(f"There is no tenant {wanted!r}.", "not_found", Exit.NOT_FOUND, 404)


def _ask_whether(question: str, session: Session) -> None:
    if not session.output.notes.is_terminal:
        raise Unusable(f"{question} Say --yes: there is nobody to ask here.", "not_confirmed")
    typer.confirm(question, abort=True, err=True)
