"""What an OpenAPI document says of a service, as plain values: its operations, their parameters, a body that fits.

So that a row covers a new route by itself. Knows OpenAPI 3.1 as FastAPI writes it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Any
_METHODS = ("get", "head", "post", "put", "patch", "delete")
_SMALLEST: dict[str, Json] = {"boolean": False, "null": None, "object": {}}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        parameters: names by where they stand (``path``, ``query``, ``header``).
        body: schema of the JSON body, None where there is none.
        form: schema of the multipart body, None where there is none.
    """

    method: str
    path: str
    parameters: Mapping[str, tuple[str, ...]]
    body: Json
    form: Json

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


class Api:
    """An OpenAPI document."""

    def __init__(self, document: Json) -> None:
        self._document = document

    def operations(self) -> list[Operation]:
        """Every operation: what reads before what changes, what deletes last."""
        found = []
        for path, methods in self._document["paths"].items():
            for method, said in methods.items():
                if method not in _METHODS:
                    continue
                places: dict[str, list[str]] = {"path": [], "query": [], "header": []}
                for parameter in (*methods.get("parameters", ()), *said.get("parameters", ())):
                    places.setdefault(parameter["in"], []).append(parameter["name"])
                content = said.get("requestBody", {}).get("content", {})
                body, form = (content.get(k, {}).get("schema") for k in ("application/json", "multipart/form-data"))
                parameters = {place: tuple(names) for place, names in places.items()}
                found.append(Operation(method, path, parameters, body, form))
        return sorted(found, key=lambda each: _METHODS.index(each.method))

    def example(self, schema: Json) -> Json:
        """The smallest value that fits a schema: required properties only, the first of several kinds."""
        schema = self._resolved(schema)
        for name in ("const", "default"):
            if name in schema:
                return copy.deepcopy(schema[name])
        if schema.get("examples"):
            return copy.deepcopy(schema["examples"][0])
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                return {name: self.example(schema["properties"][name]) for name in schema.get("required", ())}
            case "array":
                items = schema.get("items", {"type": "string"})
                return [self.example(items) for _ in range(schema.get("minItems", 0))]
            case "string":
                return "x" * max(1, schema.get("minLength", 1))
            case "integer" | "number":
                low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
                return low + 1 if "exclusiveMinimum" in schema and "minimum" not in schema else low
            case kind:
                return copy.deepcopy(_SMALLEST.get(str(kind)))

    def string_slots(
        self, schema: Json, example: Json, depth: int = 3
    ) -> Iterator[tuple[str, Json, Mapping[str, Json]]]:
        """Where a string of the client's choice can stand in a body.

        Args:
            example: a body that fits.

        Yields:
            a name such as ``lorebase.template``; the body with ``{}`` in that place; the schema of the place.
        """
        schema = self._resolved(schema)
        for name, each in schema.get("properties", {}).items():
            for kind in self._kinds(each):
                if kind.get("type") == "string" and "enum" not in kind and "const" not in kind:
                    yield name, {**example, name: "{}"}, kind
                elif kind.get("type") == "array" and self._resolved(kind.get("items", {})).get("type") == "string":
                    yield f"{name}[]", {**example, name: ["{}"]}, kind["items"]
                elif kind.get("type") == "object" and kind.get("properties") and depth:
                    own = self.example(kind)
                    for inner, value, slot in self.string_slots(kind, own, depth - 1):
                        yield f"{name}.{inner}", {**example, name: value}, slot
                elif kind.get("type") == "object" and not kind.get("properties"):
                    yield f"{name}{{}}", {**example, name: {"id": "{}"}}, {}

    def _kinds(self, schema: Json) -> list[Json]:
        schema = self._resolved(schema)
        return [self._resolved(each) for each in schema.get("anyOf", schema.get("oneOf", [schema]))]

    def _resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            found = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}}
        if "anyOf" in schema and "type" not in schema and "default" not in schema:
            first = self._resolved(schema["anyOf"][0])
            return {**first, **schema}
        return schema


def filled(value: Json, text: str) -> Json:
    """A body with ``text`` wherever ``{}`` stands."""
    match value:
        case "{}":
            return text
        case dict():
            return {name: filled(each, text) for name, each in value.items()}
        case list():
            return [filled(each, text) for each in value]
        case _:
            return value
