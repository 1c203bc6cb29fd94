"""Every page of the back office, found by walking through its addresses, so that no new one escapes the tests of all.

A test fills the installation (the fixture `demo`, then `fill_up`), signs somebody in (`visitor`) and takes `every_page`
of theirs.
A page that is not found by itself, since its address has arguments of its own, stands in `_own`; an address that is no
page stands in NO_PAGES with the reason. `missed` names what is neither: it has to be empty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from chats.models import WebhookEvent
from integrations_str.models import Integration, Property
from tests.sandbox.driver import Sandbox

Kind = Literal["list", "add", "change", "history", "delete", "ask", "own", "shell"]
"""`ask`: a button that asks once more; `own`: pages of ours; `shell`: what Django and Unfold bring around them."""

NO_PAGES = {
    "admin:logout": "answers to POST alone",
    "admin:search": "a fragment that the sidebar's search asks for",
    "admin:autocomplete": "JSON",
    "admin:jsi18n": "a script",
    "admin:view_on_site": "a redirect",
    "admin:avito_accounts_account_connect": "a redirect to Avito",
    "admin:avito_accounts_run_progress": "a fragment of the run's page",
    "admin:chats_chat_open_inbox": "a redirect to the inbox",
    "admin:chats_chat_reply": "answers to POST alone",
    "admin:integrations_str_integration_state": "a fragment of the connection's page",
    "admin:integrations_str_synctask_change": "a redirect to the connection",
    "admin:messenger_presence_signs": "a fragment of the presence's page",
    "admin:notifications_notification_read_all": "answers to POST alone",
    "system_run": "answers to POST alone",
}
_KINDS: dict[str, Kind] = {
    "changelist": "list",
    "add": "add",
    "change": "change",
    "history": "history",
    "delete": "delete",
    "changes": "own",
}


@dataclass(frozen=True)
class Page:
    """`name`: the address's own, and after a blank what is special about this one; `status`: of its answer."""

    name: str
    path: str
    kind: Kind
    status: int = 200
    is_for_anybody: bool = False
    """Not signed in: the page of the door."""

    def __str__(self) -> str:
        return self.name


def every_page(user: User) -> list[Page]:
    """What the user, who has to be a superuser, may open now: without rows no page of a single row."""
    return [*_own(user), *_of_models(user)]


def missed() -> set[str]:
    """Addresses of the back office of which nobody has said whether they are pages."""
    user = User(is_superuser=True, is_active=True, is_staff=True)
    known = {page.name.split()[0] for page in _own(user)} | {name for name, *_rest in _model_names()}
    return {name for name, _route in _names(get_resolver())} - known


def visitor(user: User) -> Client:
    """Somebody signed in who stands, with a property that is not connected, at the last step of connecting it."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    free = _not_connected(user)
    connected = Integration.objects.connected().filter(property__owner=user).order_by("pk").first()
    if free and connected:
        path = reverse("str_connect", args=[free.pk])
        client.post(path, {"do": "use"})
        client.post(path, {"do": "account", "account": connected.account_id})
        item = Sandbox(settings.AVITO_API_BASE_URL).make_rent_item(connected.account.avito_user_id)  # type: ignore[union-attr,arg-type]
        client.post(path, {"do": "item", "item": item})
    return client


def fill_up() -> None:
    """Rows for the pages that the demonstration leaves empty."""
    now = timezone.now()
    WebhookEvent.objects.create(
        status=WebhookEvent.Status.DEAD,
        digest=b"%032d" % 1,
        body='{"id": "1", "версия": "v3.0.0"}'.encode(),
        error="Traceback (most recent call last):\n  …\nValueError: payload",
        received_at=now,
    )
    every = IntervalSchedule.objects.create(every=10, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="tidy-jobs", task="avito_accounts.tasks.tidy_jobs", interval=every)
    seen = {"username": "root", "ip_address": "127.0.0.1", "user_agent": "Firefox", "path_info": "/admin/login/"}
    AccessAttempt.objects.create(**seen, failures_since_start=3, get_data="", post_data="")


# Pages of our own and of the door


def _own(user: User) -> list[Page]:
    def page(name: str, query: str = "", *args: Any, kind: Kind = "own", says: str = "", **details: Any) -> Page:
        return Page(f"{name} {says}".strip(), reverse(name, args=args) + query, kind, **details)

    some = Property.objects.filter(owner=user).order_by("pk").first() if user.pk else None
    pages = [
        page("admin:index"),
        *[page(name) for name, route in _names(get_resolver()) if ":" not in name and "<" not in route],
        page("avito-callback", "?error=access_denied", says="refused", status=400),
        page("admin:password_change", kind="shell"),
        page("admin:password_change_done", kind="shell"),
        page("admin:login", kind="shell", is_for_anybody=True),
        page("admin:app_list", "", "avito_accounts", kind="shell"),
        Page("404", "/admin/nowhere/", "shell", status=404),
    ]
    if some:
        pages.append(page("str_calendar", f"?property={some.pk}", says="of one property"))
        pages.append(page("str_calendar", f"?property={some.pk}&view=months", says="in months"))
    return [*pages, *_connecting(user, page)]


def _connecting(user: User, page: Any) -> Iterator[Page]:
    """The wizard in its steps, and connections as they are: well, with a question, with a listing that is gone."""
    name = "str_connect"
    if user.pk is None:
        yield Page(name, "", "own")
        return
    free = _not_connected(user)
    if free:
        for step in range(1, 5):
            yield page(name, f"?step={step}", free.pk, says=f"step {step}")
    connected = Integration.objects.connected().filter(property__owner=user).order_by("pk")
    for number, one in enumerate(connected[:3], 1):
        yield page(name, "", one.property_id, says=f"of connection {number}")
    if connected:
        for edit in ("markup", "disconnect"):
            yield page(name, f"?edit={edit}", connected[0].property_id, says=edit)


def _not_connected(user: User) -> Property | None:
    taken = Integration.objects.connected().values("property")
    return Property.objects.filter(owner=user).exclude(pk__in=taken).order_by("pk").first()


# Pages of models


def _of_models(user: User) -> Iterator[Page]:
    request = RequestFactory().get("/admin/")
    request.user = user
    for name, model, takes_row in _model_names():
        page, word = admin.site.get_model_admin(model), name.rsplit("_", 1)[1]
        row = page.get_queryset(request).order_by("pk").first() if takes_row else None
        if takes_row and row is None:
            continue
        may = {
            "add": page.has_add_permission(request),
            "delete": page.has_delete_permission(request, row) if takes_row else True,
        }
        if may.get(word, True):
            path = reverse(name, args=[row.pk] if row else [])
            yield Page(name, path, _KINDS.get(word, "ask"))


def _model_names() -> Iterator[tuple[str, type[Model], bool]]:
    """The name of each address of each model, and whether it is a row's."""
    for model, page in admin.site._registry.items():
        for one in page.get_urls():
            name = f"admin:{one.name}"
            if isinstance(one, URLPattern) and one.name and name not in NO_PAGES:
                yield name, model, bool(one.pattern.converters)


def _names(resolver: URLResolver, space: str = "", above: str = "") -> Iterator[tuple[str, str]]:
    """The addresses below /admin/ that may be pages, by name; those without one lead on to those with."""
    for one in resolver.url_patterns:
        route = above + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _names(one, f"{one.namespace}:" if one.namespace else space, route)
        elif route.startswith("admin/") and one.name and space + one.name not in NO_PAGES:
            yield space + one.name, route
