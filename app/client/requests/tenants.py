"""Tenants, their keys, what they decided, used and changed; and everything as an archive."""

from __future__ import annotations

from typing import Any, Literal

from app.audit_schemas import AuditPage, AuditVerification
from app.client.calls import Call, Download, Sending, given, nothing, path_of, shaped
from app.feedback_schemas import PolicyResponse
from app.key_schemas import KeyCreated, KeyList, KeyRotated, OwnKey
from app.schemas import TenantCreated, TenantList
from app.usage_schemas import TenantDetails, UsageResponse


def tenants() -> Call[TenantList]:
    """All tenants (admin key)."""
    return shaped(TenantList, Sending("GET", "/tenants"))


def create_tenant(name: str) -> Call[TenantCreated]:
    """Make a tenant; its key is in the answer and nowhere else (admin key)."""
    return shaped(TenantCreated, Sending("POST", "/tenants", json={"name": name}))


def delete_tenant(tenant_id: str) -> Call[None]:
    """Forget a tenant and all that is its (admin key)."""
    return nothing(Sending("DELETE", path_of("tenants", tenant_id)))


def tenant(tenant_id: str) -> Call[TenantDetails]:
    """A tenant with its limits (admin key, or the tenant's own)."""
    return shaped(TenantDetails, Sending("GET", path_of("tenants", tenant_id)))


def change_limits(tenant_id: str, **limits: int | Literal["unlimited"] | None) -> Call[TenantDetails]:
    """Set limits of one tenant; None is the service's default again (admin key)."""
    return shaped(TenantDetails, Sending("PATCH", path_of("tenants", tenant_id), json={"limits": limits}))


def keys(tenant_id: str) -> Call[KeyList]:
    """A tenant's keys, revoked ones too (admin key, or the tenant's own)."""
    return shaped(KeyList, Sending("GET", path_of("tenants", tenant_id, "keys")))


def add_key(tenant_id: str, **terms: Any) -> Call[KeyCreated]:
    """Make a further key for a tenant; it is in the answer and nowhere else. ``terms`` are the request's fields."""
    return shaped(KeyCreated, Sending("POST", path_of("tenants", tenant_id, "keys"), json=given(**terms)))


def rotate_key(tenant_id: str, key_id: str, *, overlap_seconds: float | None = None) -> Call[KeyRotated]:
    """Make a key that opens the same; the old one goes on for the overlap."""
    body = given(overlap_seconds=overlap_seconds)
    return shaped(KeyRotated, Sending("POST", path_of("tenants", tenant_id, "keys", key_id, "rotate"), json=body))


def revoke_key(tenant_id: str, key_id: str) -> Call[None]:
    """Revoke a key at once."""
    return nothing(Sending("DELETE", path_of("tenants", tenant_id, "keys", key_id)))


def own_key() -> Call[OwnKey]:
    """What the key that asks opens."""
    return shaped(OwnKey, Sending("GET", "/key"))


def usage(*, days: int = 31) -> Call[UsageResponse]:
    """What the tenant has and has used, and its limits."""
    return shaped(UsageResponse, Sending("GET", "/usage", given(days=days)))


def tenant_usage(tenant_id: str, *, days: int = 31) -> Call[UsageResponse]:
    """The same of any tenant (admin key, or the tenant's own)."""
    return shaped(UsageResponse, Sending("GET", path_of("tenants", tenant_id, "usage"), given(days=days)))


def audit(*, offset: int = 0, limit: int = 100) -> Call[AuditPage]:
    """One page of what was changed, and by which key, newest first."""
    return shaped(AuditPage, Sending("GET", "/audit", given(offset=offset, limit=limit)))


def tenant_audit(tenant_id: str, *, offset: int = 0, limit: int = 100) -> Call[AuditPage]:
    """The same of any tenant (admin key, or the tenant's own)."""
    return shaped(AuditPage, Sending("GET", path_of("tenants", tenant_id, "audit"), given(offset=offset, limit=limit)))


def verify_audit() -> Call[AuditVerification]:
    """Have the hashes of all entries computed anew: whether the log is what was written."""
    return shaped(AuditVerification, Sending("GET", "/audit/verification"))


def admin_keys() -> Call[KeyList]:
    """The keys of the service's admin (admin key)."""
    return shaped(KeyList, Sending("GET", "/keys"))


def add_admin_key(**terms: Any) -> Call[KeyCreated]:
    """Make a further key for the service's admin; ``terms`` are the request's fields (admin key)."""
    return shaped(KeyCreated, Sending("POST", "/keys", json=given(**terms)))


def rotate_admin_key(key_id: str, *, overlap_seconds: float | None = None) -> Call[KeyRotated]:
    """Make a key for the service's admin in the place of one that goes on for the overlap (admin key)."""
    body = given(overlap_seconds=overlap_seconds)
    return shaped(KeyRotated, Sending("POST", path_of("keys", key_id, "rotate"), json=body))


def revoke_admin_key(key_id: str) -> Call[None]:
    """Revoke a key of the service's admin, not the one that asks (admin key)."""
    return nothing(Sending("DELETE", path_of("keys", key_id)))


def policy() -> Call[PolicyResponse]:
    """What the tenant has decided: whether answers are kept, whether the gate is required."""
    return shaped(PolicyResponse, Sending("GET", "/policy"))


def change_policy(**decisions: bool) -> Call[PolicyResponse]:
    """Change decisions of the tenant; what is not given stays."""
    return shaped(PolicyResponse, Sending("PUT", "/policy", json=decisions))


def backup() -> Download:
    """All tenants as one tar archive (admin key)."""
    return Download(Sending("GET", "/backup", patient=True))


def export_tenant(tenant_id: str) -> Download:
    """One tenant as a tar archive of its own (admin key)."""
    return Download(Sending("GET", path_of("tenants", tenant_id, "export"), patient=True))
