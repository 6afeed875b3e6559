"""The web page at `/`, and the API's description at `/docs`: files, served without a key."""

from __future__ import annotations

import mimetypes

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from app.page_files import FILES, FOLDER, headers_of

router = APIRouter(include_in_schema=False)
_STATIC = StaticFiles(directory=FOLDER)
# A machine's own table of types can be wrong, and a browser runs no module that is not called JavaScript.
mimetypes.add_type("text/javascript", ".js")


@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/docs", methods=["GET", "HEAD"])
@router.api_route("/web/{path:path}", methods=["GET", "HEAD"])
async def file(request: Request) -> Response:
    """A file of the page; 304 when the browser has it already."""
    address = request.scope["path"]
    if address not in FILES:
        raise HTTPException(404)
    response = await _STATIC.get_response(FILES[address].relative_to(FOLDER).as_posix(), request.scope)
    response.headers.update(headers_of(address))
    return response
