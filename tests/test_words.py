"""What the back office says: on a Russian page no English word, in the code no Russian one, in scripts none at all.

The rows have Greek names, so that each Latin letter on a Russian page is the product's own. The pages are those of the
admin site's addresses: a new one is looked at by itself.
"""

import ast
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from avito_accounts.models import Account, DailyStats, Job, Run, moscow_today
from chats.models import CannedReply, WebhookEvent
from integrations_str.models import Booking, Property, QuarantinedBooking
from messenger.models import PresenceAttempt
from notifications import kinds, services
from notifications.models import Notification
from tests.factories import make_chat, make_message, make_proxy, make_user
from tests.integrations_str.test_admin import Estate, host_client, make_estate
from tests.test_translations import NOT_TRANSLATED, ROOT, ours

NAMES = {
    *(
        "avito",
        "service",
        "API",
        "OAuth",
        "HTTP",
        "HTTPS",
        "SOCKS4",
        "SOCKS5",
        "UTC",
        "IP",
        "ID",
        "client",
        "secret",
        "id",
    ),
    *("beat", "worker", "make", "run"),  # what whoever runs the service types
    *("JPEG", "HEIC", "GIF", "BMP", "PNG"),
    *("Enter", "Shift", "Esc", "Escape"),
    *("ru", "en", "English"),
}
"""Proper names, terms and keys that are the same in Russian."""
SPOKEN = ("title", "aria-label", "placeholder", "alt")
UNSPOKEN = {"script", "style", "code", "pre", "kbd", "textarea", "icon", "template"}
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "path", "source", "track", "wbr"}
TECHNICAL = re.compile(r"https?:\S+|\w+(?:[/._@]\w+)+|\{\w+\}|%\(\w+\)s", re.IGNORECASE)
"""Addresses, paths of tasks, time zones, names of fields, places to be filled in."""
LATIN, DATE = re.compile(r"[A-Za-z][A-Za-z0-9]+"), re.compile(r"\b\d{4}-\d\d-\d\d\b")
RUSSIAN = re.compile("[а-яё]", re.IGNORECASE)
KEYS = {"Enter", "Escape", "Slash", "Home", "End", "Tab", "Delete", "Backspace"}


class Reader(HTMLParser):
    """Whatever a page says: texts, what is said of its parts, and the words that its scripts are given."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in EMPTY:
            is_icon = "material-symbols" in (given.get("class") or "")
            is_facts = tag == "script" and given.get("type") == "application/json"
            self.open.append("icon" if is_icon else "facts" if is_facts else tag)
        self.said += [given.get(name) or "" for name in SPOKEN]
        if given.get("type") in ("submit", "button", "reset"):
            self.said.append(given.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "facts":
            self.said += leaves(json.loads(data).get("words", {}))
        elif not UNSPOKEN & set(self.open):
            self.said.append(data)


def leaves(facts: Any) -> Iterator[str]:
    if isinstance(facts, str):
        yield facts
    elif isinstance(facts, dict | list):
        for one in facts.values() if isinstance(facts, dict) else facts:
            yield from leaves(one)


def not_russian(page: str) -> set[str]:
    reader = Reader()
    reader.feed(page)
    found = set()
    for said in map(str.strip, reader.said):
        words = LATIN.findall(TECHNICAL.sub(" ", said))
        if DATE.search(said) or any(word not in NAMES for word in words):
            found.add(said)
    return found


def furnish() -> Estate:
    """A row of everything, and as much trouble as there can be."""
    estate = make_estate("Μίρα")
    Property.objects.update(name="Σπίτι", address="")
    Notification.objects.all().delete()
    for row in (*Booking.objects.all(), *QuarantinedBooking.objects.all()):
        row.guest_name, row.raw = "Νίκος", "{}"
        row.save()
    account = Account.objects.get()
    account.name = "Άννα"
    account.save()
    account.history.update(name="Άννα")
    proxy = make_proxy(note="Αθήνα", status="error", error_reason="timeout")
    Account.objects.update(eternal_online_enabled=True, proxy=proxy, balance_real=12)
    DailyStats.objects.create(account=account, date=moscow_today() - timedelta(days=1), views=1234, contacts=5)
    PresenceAttempt.objects.create(account=account, at=timezone.now(), method="status", code="avito_timeout")
    chat = make_chat(account, avito_id="1", name="Πέτρος", item_title="Στούντιο")
    make_message(chat, avito_id="2", text="Χαίρετε", error_code="avito_timeout")
    WebhookEvent.objects.create(digest=b"%032d" % 1, body=b"{}", received_at=timezone.now(), status="dead")
    CannedReply.objects.create(title="Ναι", text="Ναι")
    Job.objects.create(run=Run.objects.create(kind=Job.Kind.CHECK), kind=Job.Kind.CHECK, account=account)
    for kind in (kind for kind in kinds._kinds if not kind.startswith("test_")):  # other tests have kinds of their own
        services.tell(kind, needs="accounts.read", params={"name": "Άννα", "check_in": "2027-01-01"})
    rhythm = IntervalSchedule.objects.create(every=3, period="hours")
    PeriodicTask.objects.create(name="queue-syncs", task="avito_accounts.tasks.queue_syncs", interval=rhythm)
    AccessAttempt.objects.create(username="Μίρα", ip_address="127.0.0.1", failures_since_start=3)
    return estate


def pages(boss: Client) -> Iterator[tuple[str, Any]]:
    """All pages of the admin site; lists with and without rows, forms with errors, what comes after an action."""
    for name in ("index", "login", "password_change", "password_change_done"):
        address = reverse(f"admin:{name}")
        yield address, boss.get(address)
    for address in (reverse("chats_inbox"), reverse("str_calendar"), "/admin/there-is-no-such-page/", "/admin/login/"):
        yield address, boss.get(address)
    for model, page in admin.site._registry.items():
        base = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        row = model._default_manager.order_by("pk").first()
        assert row is not None, f"no {model._meta.label} to look at: let furnish() make one"
        yield f"{base}?q=ξξξ", boss.get(f"{base}?q=ξξξ")
        for url in page.get_urls():
            address = base + re.sub(r"<[^>]+>", str(row.pk), str(url.pattern))
            yield address, boss.get(address)
        yield f"POST {base}add/", boss.post(f"{base}add/", {})
        listed = boss.get(base)
        for action, _text in listed.context["cl"].model_admin.get_action_choices(listed.wsgi_request):
            if action:
                chosen = {"action": action, "_selected_action": [row.pk]}
                yield f"POST {base} {action}", boss.post(base, chosen, follow=True)


def test_russian_pages_have_no_english_words_and_no_dates_for_machines(product: str) -> None:
    estate = furnish()
    boss = Client(headers={"accept-language": "ru"})
    user = User.objects.get(pk=make_user("Σοφία", "admin", is_staff=True, is_superuser=True).pk)
    boss.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    host = host_client(estate.owner)
    host.defaults["HTTP_ACCEPT_LANGUAGE"] = "ru"
    seen = dict(pages(boss))
    for address in ("/admin/", reverse("str_calendar"), reverse("str_connect", args=[estate.property.pk])):
        seen[f"host {address}"] = host.get(address)
    seen["stranger /admin/login/"] = Client(headers={"accept-language": "ru"}).get("/admin/login/")
    looked_at = 0
    found: dict[str, str] = {}
    for address, answer in seen.items():
        if answer.status_code in (200, 403, 404) and answer["Content-Type"].startswith("text/html"):
            looked_at += 1
            for text in not_russian(answer.content.decode()):
                found.setdefault(text, address)
    assert looked_at > 100
    assert not found, "\n".join(f"{address}: {text}" for text, address in found.items())


def test_the_code_speaks_english() -> None:
    """Whatever Russian people read, the catalogue says; but for what the code looks for in Avito's words."""
    names = {
        "config/settings.py",
        "config/formats/ru/formats.py",
        "config/demo.py",
        "avito/content.py",
        "chats/apps.py",
    }
    for name, text in ours():
        said = [text] if name.endswith(".html") else list(literals(ast.parse(text)))
        assert name in names or not [one for one in said if RUSSIAN.search(one)], name


def literals(tree: ast.AST) -> Iterator[str]:
    """All strings of a module but docstrings."""
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in notes:
            yield node.value


def test_scripts_have_their_words_from_django() -> None:
    scripts = [path for path in ROOT.glob("*/static/**/*.js") if path.relative_to(ROOT).parts[0] not in NOT_TRANSLATED]
    assert scripts
    for path in scripts:
        code = re.sub(r"(?m)(?:^|\s)//.*$|/\*[\s\S]*?\*/", "", path.read_text())
        for text in re.findall(r"""["'`]((?:[^"'`\n\\]|\\.)*)["'`]""", code):
            assert text in KEYS or not re.match(r"[A-Z][a-z]+(?:[ .,:!?…]|$)", text), f"{path.name}: {text}"
            assert not RUSSIAN.search(text), f"{path.name}: {text}"
