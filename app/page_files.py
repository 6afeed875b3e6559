"""The web page's files: which there are, and under which addresses and headers they are served.

They are the only thing besides the probes and the API's description that is given without a key, so their addresses
are a list made when the program starts: what is not on it is never served as a file.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "web"
_ENTRANCES = {"/": "index.html", "/docs": "docs.html"}
FILES: dict[str, Path] = {
    **{address: FOLDER / name for address, name in _ENTRANCES.items()},
    **{
        f"/web/{path.relative_to(FOLDER).as_posix()}": path
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file() and path.name not in _ENTRANCES.values()
    },
}
"""Address → file."""
PAGE_PATHS = frozenset(FILES)

_HEADERS = {
    "Cache-Control": "no-cache",  # asked for again each time, answered 304 while unchanged
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# blob: is for page images, which are fetched with the key in a header and so have no address of their own.
_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_NO_MARKUP = "; require-trusted-types-for 'script'; trusted-types 'none'"
_SWAGGER = "; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


def headers_of(address: str) -> dict[str, str]:
    """The headers of a file: nothing is loaded from elsewhere, no script stands in a page, and no text becomes markup.

    The API's description (`/docs`) is Swagger UI, which makes markup of the OpenAPI document; it gets no key from the
    page and may not take text for markup either, but needs styles and pictures of its own.
    """
    if address == "/docs":
        return {**_HEADERS, "Content-Security-Policy": _POLICY.replace("; img-src 'self' blob:", _SWAGGER)}
    return {**_HEADERS, "Content-Security-Policy": _POLICY + _NO_MARKUP}
