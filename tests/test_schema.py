"""The OpenAPI schema and its page: complete, without a warning, and nothing of it comes from outside."""

import re
from html.parser import HTMLParser
from io import StringIO
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver

from tests.conftest import Api

# Paths that are no part of the API: pages for people, files, and what operators probe.
EXEMPT = re.compile(r"/|/favicon.ico|/health(/ready)?|/metrics|/api/schema|/api/docs|/i18n/.*|/admin/.*|/str(/.*)?")


@pytest.fixture
def schema(nobody: Api) -> Any:
    return nobody.get("/api/schema", format="json").json()


def test_schema_is_made_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null", stdout=StringIO())
    assert "arning" not in capsys.readouterr().err


def url_map(patterns: Any = None, prefix: str = "/") -> set[str]:
    """Every path that Django knows, with parameters as `{}`."""
    found = set()
    for entry in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + _plain(str(entry.pattern))
        if isinstance(entry, URLResolver):
            found |= url_map(entry.url_patterns, path)
        elif isinstance(entry, URLPattern):
            found.add(path)
    return found


def _plain(pattern: str) -> str:
    pattern = pattern.removeprefix("^").removesuffix("$").removesuffix(r"\Z")
    return re.sub(r"\(\?P<\w+>[^)]*\)|<[^>]+>", "{}", pattern).replace("\\", "")


def test_schema_is_the_url_map(schema: Any) -> None:
    described = {re.sub(r"\{\w+\}", "{}", path) for path in schema["paths"]}
    webhooks = {path for path in described if re.fullmatch(r"/api/v1/webhooks?/avito(/\{\})?", path)}
    assert len(webhooks) == 4  # served by chats.intake, in front of Django
    assert described - webhooks == {path for path in url_map() if not EXEMPT.fullmatch(path)}


def test_every_operation_says_what_it_is(schema: Any, subtests: pytest.Subtests) -> None:
    ids = []
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            with subtests.test(f"{method} {path}"):
                ids.append(operation["operationId"])
                assert operation.get("description"), "no docstring"
                assert operation["responses"]
    assert len(ids) == len(set(ids))


def test_names_in_the_schema_are_camel_case(schema: Any) -> None:
    names = {
        name
        for key, component in schema["components"]["schemas"].items()
        if "Error" not in key
        for name in component.get("properties", {})
    }
    assert {name for name in names if not re.fullmatch("[a-z][a-zA-Z0-9]*", name)} == set()


class Addresses(HTMLParser):
    """Whatever a page loads or links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value for name, value in attrs if name in {"src", "href", "srcset", "action", "data"} and value]


def test_docs_page_loads_nothing_from_outside(nobody: Api) -> None:
    page = nobody.get("/api/docs")
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    loaded = Addresses(page.text).loaded
    assert len(loaded) >= 3
    for address in loaded:
        if address.startswith("data:"):
            continue
        full = urljoin(f"{nobody.base}/api/docs", address)
        assert urlsplit(full).netloc == urlsplit(nobody.base).netloc, address
        assert nobody.call("GET", full).status_code == 200, address
    assert not re.findall(r"""["'(]\s*(?:https?:)?//(?!127\.0\.0\.1)[\w.]+""", page.text)
    assert "/api/schema" in page.text


def test_schema_names_both_ways_in(schema: Any) -> None:
    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert "cookieAuth" in schema["components"]["securitySchemes"]


def test_schema_describes_errors(schema: Any) -> None:
    responses = schema["paths"]["/api/v1/accounts"]["post"]["responses"]
    assert {"201", "400"} <= set(responses)


@pytest.mark.parametrize("suffix", ["", "/"])
def test_main_path_and_alias_of_the_callback_are_one_view(suffix: str, nobody: Api) -> None:
    pages = [nobody.get(f"/api/v1/{family}/avito/callback{suffix}") for family in ("auth", "oauth")]
    assert [page.status_code for page in pages] == [400, 400]
    assert pages[0].headers["Content-Type"] == pages[1].headers["Content-Type"]
