"""Writes two pages when the documentation is built: `api.md`, every route, from the OpenAPI document of the code; and
`security.md`, which is SECURITY.md, where hosts of code look for it.

An MkDocs hook. Knows OpenAPI's shapes; what the routes mean is told by their own docstrings and fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from app.main import openapi_document

_METHODS = ("get", "post", "put", "patch", "delete")
_INTRODUCTION = """# API reference

Made from the code's own OpenAPI document, which a running service gives at `/openapi.json` and shows at `/docs`. Every
request carries `Authorization: Bearer <key>`; errors are problem JSON (RFC 9457) with a stable `code` and a `detail`. A
field with a dot (·) may be left out.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions, of which there are more from time to time; each is titled by its own heading."""
    folder = Path(config.docs_dir)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob("decisions/*.md"))
    config.nav = [*(config.nav or []), {"Decisions": found}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder."""
    files.append(File.generated(config, "api.md", content=api_page(openapi_document())))
    threats = (Path(config.docs_dir).parent / "SECURITY.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "security.md", content=threats))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead links to SECURITY.md to its page."""
    return markdown.replace("](../SECURITY.md", "](security.md")


def api_page(document: Mapping[str, Any]) -> str:
    """The page in Markdown: routes by their tag, each with its parameters, body and answer."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = (operation.get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append("\n".join(_route(method, path, operation, document)))
    sections = [f"## {tag.capitalize()}\n\n" + "\n".join(routes) for tag, routes in sorted(by_tag.items())]
    return _INTRODUCTION + "\n" + "\n".join(sections)


def _route(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    yield operation.get("description", operation.get("summary", "")) + "\n"
    rows = [
        (
            f"`{each['name']}` ({each['in']})",
            _kind(each.get("schema", {})),
            each.get("description", ""),
            each.get("required"),
        )
        for each in operation.get("parameters", ())
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += list(_fields(content.get("schema", {}), document, media_type))
    if rows:
        yield "| field | type | meaning |\n| --- | --- | --- |"
        yield from (
            f"| {name}{'' if required else ' ·'} | {kind} | {_cell(said)} |" for name, kind, said, required in rows
        )
        yield ""
    good = {status: each for status, each in operation.get("responses", {}).items() if status.startswith("2")}
    for status, each in good.items():
        kinds = {_kind(content.get("schema", {})) for content in each.get("content", {}).values()} - {""}
        yield f"Answers {status}{': ' + ', '.join(sorted(kinds)) if kinds else ''}.\n"


def _fields(
    schema: Mapping[str, Any], document: Mapping[str, Any], media_type: str
) -> Iterator[tuple[str, str, str, bool]]:
    found = _resolved(schema, document)
    where = "form" if media_type.startswith("multipart") else "JSON"
    for name, each in found.get("properties", {}).items():
        yield f"`{name}` ({where})", _kind(each), each.get("description", ""), name in found.get("required", ())


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    for alternative in (schema, *schema.get("anyOf", ())):
        if "$ref" in alternative:
            name = alternative["$ref"].rpartition("/")[2]
            found: Mapping[str, Any] = document["components"]["schemas"][name]
            return found
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, map(_kind, schema["anyOf"]))))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {})) or 'anything'}"
    limits = [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    return " ".join([str(schema.get("type", "")), *limits]).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
