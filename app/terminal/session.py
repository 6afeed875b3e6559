"""Which service a command talks to, and with which key: the options that all such commands share.

`--url` and `--key` name a running service; `--data` a folder, which the command then serves by itself, on a free
loopback port, until it ends. Without any, it is the service that LOREBASE_HOST, LOREBASE_PORT and LOREBASE_DATA
describe, with the keys its first start left in `keys.env`.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from app.client import LorebaseClient
from app.keys_file import DEFAULT_TENANT, kept_key
from app.settings import CommandSettings, Settings
from app.terminal.failures import CommandFailed, Exit, Unusable, told
from app.terminal.output import Output
from app.terminal.signatures import passing_for

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Place:
    """A service and a key to it."""

    url: str
    key: str
    trusted: ssl.SSLContext | bool = True


@dataclass(frozen=True, slots=True)
class Session:
    """A command's connection and output. ``place`` is for further clients."""

    client: LorebaseClient
    output: Output
    place: Place


@dataclass(frozen=True, slots=True)
class Where:
    """The options that say which service is meant."""

    url: str | None = None
    key: str | None = None
    data: Path | None = None
    tenant: str | None = None


_URL = Annotated[str | None, typer.Option("--url", help="A running service. [LOREBASE_URL]", rich_help_panel="Service")]
_KEY = Annotated[str | None, typer.Option("--key", help="The key to it. [LOREBASE_KEY]", rich_help_panel="Service")]
_DATA = Annotated[
    Path | None,
    typer.Option(
        "--data", rich_help_panel="Service", help="No running service: serve this data folder until the command ends."
    ),
]
_TENANT = Annotated[
    str | None,
    typer.Option("--tenant", rich_help_panel="Service", help="With --data: the tenant's name; `default` unless given."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.", rich_help_panel="Output")]
_SHARED: dict[str, tuple[Any, Any]] = {
    "url": (_URL, None),
    "key": (_KEY, None),
    "data": (_DATA, None),
    "tenant": (_TENANT, None),
    "as_json": (AsJson, False),
}


def on_service(
    *, admin: bool = False, creates: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Make a command of a function that is given a session: its own options, and those that say which service.

    Args:
        admin: the command needs the admin key.
        creates: with `--data` it may make a data folder that is not there.
    """

    def decorate(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = {name: given for name, given in _SHARED.items() if not (admin and name == "tenant")}

        def command(**given: Any) -> None:
            where = Where(**{name: given.pop(name) for name in shared if name != "as_json"})
            output = Output(as_json=given.pop("as_json"))
            with (
                told(as_json=output.as_json),
                connected(where, output, admin=admin, creates=creates) as place,
                LorebaseClient(place.url, place.key, verify=place.trusted) as client,
            ):
                function(Session(client, output, place), **given)  # type: ignore[call-arg]

        keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        return passing_for(function, command, keywords, shared)

    return decorate


@contextmanager
def connected(where: Where, output: Output, *, admin: bool = False, creates: bool = False) -> Iterator[Place]:
    """The service that the options mean; one of the command's own ends with the block."""
    asked = CommandSettings()
    if where.data is None:
        if where.tenant is not None:
            raise Unusable("--tenant goes with --data; with a running service the key says which tenant it is.")
        yield _running(where, asked, admin=admin)
        return
    if where.url is not None or where.key is not None:
        raise Unusable("Give either --data, or --url and --key: a folder that is served by the command, or a service.")
    from app.terminal.own_service import own_service  # with all that a server needs

    with own_service(where.data, None if admin else where.tenant or DEFAULT_TENANT, output, creates=creates) as place:
        yield place


def _running(where: Where, asked: CommandSettings, *, admin: bool) -> Place:
    settings = Settings()
    url = where.url or asked.url
    key = where.key or (asked.key.get_secret_value() if asked.key else None)
    if key is None:
        given = settings.admin_key if admin else settings.default_key
        # a key kept here is only for the service that runs here
        key = given.get_secret_value() if given else (None if url else kept_key(settings.data, admin=admin))
    if key is None:
        raise CommandFailed(
            f"There is no {'admin ' if admin else ''}key to ask with: give --key, or set LOREBASE_KEY.",
            "no_key", Exit.REFUSED,
        )  # fmt: skip
    return Place((url or settings.url).rstrip("/"), key, True if url else settings.trusted)
