"""What a page costs: queries that do not grow with the rows, bytes that do not tire a phone, files kept for good."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import LazySettings
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.files import File
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from whitenoise.middleware import WhiteNoiseMiddleware

from tests import pages
from tests.copies import multiply
from tests.factories import make_user

QUERIES_MAX = 20
"""Eight for what stands around every page (session, person, groups, badge, languages), a dozen for the page itself."""
BYTES_MAX = 30_000
"""Of a page as it travels, compressed: half a second on a phone's poor connection."""
FINDER = "django.contrib.staticfiles.finders.AppDirectoriesFinder"
LIKE_EACH_OTHER = ("history", "delete", "ask", "add", "shell")
"""Kinds whose pages do not show rows."""


def test_every_page_opens_and_costs_no_more_with_more_rows(demo: Callable[[], object]) -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    demo()
    pages.fill_up()
    client = pages.visitor(root)
    alike = [page for page in pages.every_page(root) if page.kind in LIKE_EACH_OTHER and not page.is_for_anybody]
    opened = {page.name: client.get(page.path).status_code for page in alike}
    assert opened == {page.name: page.status for page in alike}
    multiply(1)
    few, _rows = _costs(client, root)
    for number in range(20):
        make_user(f"person {number}", "operator", is_staff=True)
    multiply(4)
    many, rows = _costs(client, root)

    assert {name: (spent, many[name]) for name, spent in few.items() if many[name] > spent} == {}
    assert {name: spent for name, spent in many.items() if spent > QUERIES_MAX} == {}
    assert {name: count for name, count in rows.items() if count < 10} == {}, (
        "rows of which there are few prove nothing"
    )


def _costs(client: Client, user: User) -> tuple[dict[str, int], dict[str, int]]:
    """Queries by page, and rows by list."""
    spent, rows = {}, {}
    for page in pages.every_page(user):
        if page.kind in LIKE_EACH_OTHER:
            continue
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(page.path, headers={"accept-encoding": "gzip"})
        assert answer.status_code == page.status, page.name
        spent[page.name] = len(queries)
        assert len(answer.content) <= BYTES_MAX, f"{page.name}: {len(answer.content)} bytes"
        if page.kind == "list":
            rows[page.name] = answer.context["cl"].result_count
    return spent, rows


def test_static_files_are_compressed_and_kept_for_good(settings: LazySettings, tmp_path: Path) -> None:
    settings.STATIC_ROOT = str(tmp_path)
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": "config.static_files.Storage"}}
    settings.WHITENOISE_USE_FINDERS = False
    names = [name for name, _storage in finders.get_finder(FINDER).list([]) if name.startswith("integrations_str/")]
    for name in names:
        with Path(str(finders.find(name))).open("rb") as file:
            staticfiles_storage.save(name, File(file))
    storage: Any = staticfiles_storage
    assert all(done for *_names, done in storage.post_process({name: (storage, name) for name in names}))

    serve = WhiteNoiseMiddleware(lambda _request: HttpResponse(status=404))
    path = staticfiles_storage.url("integrations_str/calendar.js")
    answer = serve(RequestFactory().get(path, headers={"accept-encoding": "gzip"}))
    text = gzip.decompress(b"".join(answer.streaming_content)).decode()
    assert "immutable" in answer["Cache-Control"]
    assert staticfiles_storage.url("integrations_str/calendar-grid.js").rsplit("/", 1)[1] in text
    assert staticfiles_storage.url("unfold/was-not-collected.css") == "/static/unfold/was-not-collected.css"
