"""What `/str` answers is what its OpenAPI says."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.integrations_str.conftest import Home, work


def plain(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: its `nullable` is a type of its own there."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: plain(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [rest, {"type": "null"}]} if schema.get("nullable") is True else rest


@pytest.fixture
def document(home: Home) -> Any:
    return home.api.get("/api/schema", format="json").json()


def test_answers_are_what_the_document_says(home: Home, document: Any) -> None:
    home.avito.book(home.item, home.day(3), home.day(5))
    home.set_rate(10, closed=True)
    home.connect()
    work()
    home.book(20, 22, guestName="Пётр", totalPrice=9000)
    home.avito.book(home.item, home.day(20), home.day(21), force=True)
    home.read_now()
    known = {
        "/api/v1/str/properties": home.api.get("/api/v1/str/properties"),
        "/api/v1/str/properties/{id}": home.api.get(home.path),
        "/api/v1/str/properties/{id}/rates": home.api.get(f"{home.path}/rates"),
        "/api/v1/str/properties/{id}/calendar": home.api.get(f"{home.path}/calendar"),
        "/api/v1/str/properties/{id}/avito": home.api.get(f"{home.path}/avito"),
        "/api/v1/str/properties/{id}/avito/accounts": home.api.get(f"{home.path}/avito/accounts"),
        "/api/v1/str/properties/{id}/avito/log": home.api.get(f"{home.path}/avito/log"),
        "/api/v1/str/properties/{id}/avito/preview": home.api.get(f"{home.path}/avito/preview"),
        "/api/v1/str/bookings": home.api.get("/api/v1/str/bookings"),
        "/api/v1/str/conflicts": home.api.get("/api/v1/str/conflicts"),
        "/api/v1/notifications": home.api.get("/api/v1/notifications"),
    }
    for path, answer in known.items():
        assert answer.status_code == 200, path
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**plain(schema), "components": plain(document["components"])}
        judge = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert [f"{path}: {error.json_path} {error.message}" for error in judge.iter_errors(answer.json())] == []
