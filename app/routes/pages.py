"""Pages of a document as they look, with the cited sentence marked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from app.routes.dependencies import CurrentService, CurrentWorkspace, DocumentId

router = APIRouter(tags=["documents"])
_LONGEST_QUOTE = 4000
_Offset = Annotated[int | None, Query(ge=0, le=10**9)]


@router.get(
    "/documents/{document_id}/pages/{number}.png",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
async def page(
    document_id: DocumentId,
    number: Annotated[int, Path(ge=1, le=10**6)],
    workspace: CurrentWorkspace,
    service: CurrentService,
    width: Annotated[int, Query(ge=100, le=2000, description="In pixels.")] = 1000,
    start: _Offset = None,
    end: _Offset = None,
) -> Response:
    """A page of a PDF as a PNG; the text from `start` to `end`, as a citation has them, is marked where it stands.

    The header `X-Page-Count` says how many pages there are, `X-Marked` whether the text was found on this one.
    """

    def read() -> tuple[bytes, str]:
        content = workspace.corpus.original(document_id)
        if start is None or end is None:
            return content, ""
        return content, workspace.corpus.text(document_id)[start : min(end, start + _LONGEST_QUOTE)]

    drawn = await service.page_images.draw(workspace.tenant_id, read, number, width)
    headers = {
        "X-Page-Count": str(drawn.pages),
        "X-Marked": "true" if drawn.marked else "false",
        "Cache-Control": "no-store",
    }
    return Response(drawn.png, media_type="image/png", headers=headers)
