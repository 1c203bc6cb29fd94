"""Avito's OpenAPI documents, their known defects repaired, as a judge of requests and a source of answers."""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from jsonschema import Draft202012Validator

from avito.protocol import Request


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    parameters: list[dict[str, Any]]
    body: dict[str, Any]
    answer: dict[str, Any] | None
    document: dict[str, Any]

    def matches(self, request: Request) -> bool:
        return request.method == self.method and self._values(request) is not None

    def _values(self, request: Request) -> dict[str, str] | None:
        found = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)), request.path)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None

    def judge(self, request: Request) -> None:
        """Raise unless the request is one that the document allows."""
        given: dict[str, str] = {}
        for name, value in request.query:
            given[name] = f"{given[name]},{value}" if name in given else value
        repeated = {name for name in given if [other for other, _value in request.query].count(name) > 1}
        values = {"path": self._values(request) or {}, "query": given, "header": dict(request.headers)}
        known = {(parameter["in"], parameter["name"]): parameter for parameter in self.parameters}
        for place, name in [("query", name) for name in given] + [("path", name) for name in values["path"]]:
            assert (place, name) in known, f"{name} is in no document"
            schema = known[place, name]["schema"]
            assert schema.get("type") == "array" or name not in repeated, f"{name} is repeated"
            self.validate(_typed(values[place][name], schema), schema)
        for (place, name), parameter in known.items():
            assert not parameter.get("required") or name in values[place], f"{name} is required"
        self._judge_body(request)

    def _judge_body(self, request: Request) -> None:
        if not self.body:
            assert request.body is None, "the document knows no body"
            return
        [(content_type, media)] = self.body.items()
        sent_type = request.headers["Content-Type"].partition(";")[0]
        assert sent_type == content_type
        value = _body(sent_type, request.body or b"")
        self.validate(value, media["schema"])
        unknown = set(value) - set(self.resolved(media["schema"])["properties"])
        assert not unknown, f"{unknown} is in no document"

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def validate(self, value: Any, schema: dict[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)

    def example(self) -> bytes:
        """The body of a successful answer, made of the examples in the document."""
        return b"" if self.answer is None else json.dumps(self._example(self.answer)).encode()

    def _example(self, schema: dict[str, Any]) -> Any:
        schema = self.resolved(schema)
        if "example" in schema:
            return schema["example"]
        if "enum" in schema:
            return schema["enum"][0]
        if "properties" in schema:
            return {name: self._example(inner) for name, inner in schema["properties"].items()}
        if "additionalProperties" in schema:
            return {"abc": self._example(schema["additionalProperties"])}
        if "items" in schema:
            return [self._example(schema["items"])]
        if schema.get("format") == "date":
            return "2026-11-21"
        kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
        return {"string": "abc", "integer": 1, "number": 1.5, "boolean": True, "object": {}}[kind]


def _typed(written: str, schema: dict[str, Any]) -> Any:
    kind = schema.get("type")
    if kind == "array":
        return [_typed(one, schema["items"]) for one in written.split(",")]
    if kind == "integer":
        return int(written)
    return {"true": True, "false": False}[written] if kind == "boolean" else written


def _body(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type == "application/json":
        value = json.loads(body)
        assert isinstance(value, dict)
        return value
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True))
    return dict.fromkeys(re.findall(r'form-data; name="([^"]*)"', body.decode("latin-1")), "file")


@cache
def operations(name: str) -> list[Operation]:
    folder = os.environ.get("AVITO_OPENAPI_DIR")
    if not folder:
        pytest.skip("AVITO_OPENAPI_DIR does not say where Avito's OpenAPI documents are")
    document = _repaired(json.loads((Path(folder) / f"{name}.json").read_text()))
    return [
        _operation(document, path, method, operation, item.get("parameters", []))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters" and not method.startswith("x-")
    ]


def _operation(
    document: dict[str, Any], path: str, method: str, operation: dict[str, Any], shared: list[dict[str, Any]]
) -> Operation:
    parameters = [
        document["components"]["parameters"][one["$ref"].rsplit("/", 1)[1]] if "$ref" in one else one
        for one in [*shared, *operation.get("parameters", [])]
    ]
    answer = operation["responses"]["200"].get("content", {}).get("application/json", {})
    schema = answer.get("schema")
    if schema and "example" in answer and "$ref" not in schema:
        schema = {**schema, "example": answer["example"]}
    body = (operation.get("requestBody") or {}).get("content", {})
    # Three grants are three keys that differ in invisible characters.
    visible = "".join(character for character in path if character.isascii())
    return Operation(operation["operationId"], method.upper(), visible, parameters, body, schema, document)


def _repaired(document: dict[str, Any]) -> dict[str, Any]:
    """The defects that the facts on Avito's API list, mended; and `nullable` in the words of JSON Schema."""
    schemas = document["components"]["schemas"]
    if "sendMessageRequestBody" in schemas:
        schemas["sendMessageRequestBody"]["required"] = ["type", "message"]
        schemas["sendMessageRequestBody"]["properties"]["message"]["required"] = ["text"]
    if "chatTypes" in document["components"]["parameters"]:
        document["components"]["parameters"]["chatTypes"]["schema"]["default"] = ["u2i"]
    if "/core/v1/items" in document["paths"]:
        _repair_items(document)
    repaired: dict[str, Any] = json.loads(json.dumps(document), object_hook=_nullable)
    return repaired


def _repair_items(document: dict[str, Any]) -> None:
    """Paths name their parameters as these are called; several statuses may be asked for, as the example does."""
    names = {"{userId}": "{user_id}", "{itemId}": "{item_id}"}
    document["paths"] = {
        re.sub(r"{(userId|itemId)}", lambda found: names[found[0]], path): item
        for path, item in document["paths"].items()
    }
    for parameter in document["paths"]["/core/v1/items"]["parameters"]:
        if parameter.get("name") == "status":
            words = {"type": "string", "enum": parameter["schema"]["enum"]}
            parameter["schema"] = {"type": "array", "items": words}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return schema
