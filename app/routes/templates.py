"""A tenant's prompt templates: write, look, choose the default, delete."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from adapters import Example, Passage, PromptTemplate
from app.routes.dependencies import CurrentWorkspace
from app.schemas import (
    DefaultTemplate,
    ExampleBody,
    TemplateList,
    TemplateNumbers,
    TemplatePassage,
    TemplateRequest,
    TemplateResponse,
)
from app.templates import StoredTemplate

router = APIRouter(prefix="/templates", tags=["templates"])


@router.get("")
async def templates(workspace: CurrentWorkspace) -> TemplateList:
    """The tenant's templates and its default."""
    found = await asyncio.to_thread(workspace.templates.names)
    return TemplateList(
        default=workspace.templates.default,
        templates=[TemplateNumbers(name=name, versions=versions) for name, versions in found.items()],
    )


@router.put("/default")
async def set_default(body: DefaultTemplate, workspace: CurrentWorkspace) -> DefaultTemplate:
    """Choose the template of requests that name none; `builtin` is the project's own."""
    await asyncio.to_thread(workspace.templates.set_default, body.name)
    return body


@router.get("/{name}")
async def template(name: str, workspace: CurrentWorkspace) -> TemplateResponse:
    """A template: `name` for its latest version, `name@version`, or `builtin`."""
    return _response(await asyncio.to_thread(workspace.templates.select, name))


@router.put("/{name}")
async def put(name: str, body: TemplateRequest, workspace: CurrentWorkspace) -> TemplateResponse:
    """Write a new version; it serves from the next request that names the template."""
    examples = tuple(
        Example(e.question, e.answer, tuple(Passage(p.text, p.title) for p in e.passages)) for e in body.examples
    )
    written = PromptTemplate(body.system, body.question, examples)
    return _response(await asyncio.to_thread(workspace.templates.put, name, written))


@router.delete("/{name}", status_code=204)
async def remove(name: str, workspace: CurrentWorkspace) -> Response:
    """Delete a template with all its versions."""
    await asyncio.to_thread(workspace.templates.remove, name)
    return Response(status_code=204)


def _response(stored: StoredTemplate) -> TemplateResponse:
    return TemplateResponse(
        name=stored.name,
        version=stored.version,
        system=stored.template.system,
        question=stored.template.question,
        examples=[
            ExampleBody(
                question=e.question,
                answer=e.answer,
                passages=[TemplatePassage(title=p.title, text=p.text) for p in e.passages],
            )
            for e in stored.template.examples
        ],
    )
