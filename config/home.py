"""The first page of the back office: what is there, what is wrong, what to do next; a dozen queries at most."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Min, QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from api.roles import is_host, permissions_of
from avito_accounts.admin import overview, shown
from avito_accounts.admin.accounts import HAS_PROBLEM, PROBLEMS_FIRST
from avito_accounts.admin.overview import OPTIONS, Card, Problem, plot, summary
from avito_accounts.models import Account, DailyStats, moscow_today
from chats.models import Chat, Message, WebhookEvent
from config.models import Process
from config.system import queues
from config.system.page import NOT_ALIVE
from integrations_str.admin import may_enter
from integrations_str.health import health_of
from integrations_str.models import Booking, Conflict, Integration, Property
from notifications.models import Notification

DAYS = 30
LOW_BALANCE_RUB = 500
"""Below this an account is named: promotion at Avito stops without money, and nobody notices."""
NEW = timedelta(days=7)
"""So long an installation is new: it is led through everything, and later only through what it cannot do without."""
SHOWN = 6
"""Of what could be a long list, the first so many stand here."""


@dataclass(frozen=True)
class Step:
    """Something that a new installation needs once. `is_needed`: until it is done, the steps are shown."""

    text: str
    href: str
    is_done: bool = False
    is_needed: bool = True


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What Unfold's index page shows; each part for those who may see it."""
    user, rights = request.user, permissions_of(request.user)
    assert isinstance(user, User)  # noqa: S101  the admin lets nobody else in
    home: dict[str, Any] = {"problems": [], "cards": [], "plots": [], "steps": [], "is_new": False}
    if "accounts.read" in rights:
        _accounts(home, may_manage="accounts.manage" in rights)
    if "chats.use" in rights:
        _chats(home)
    _rent(home, user, may_enter=may_enter(request))
    if "accounts.manage" in rights:
        _processes(home)
    news = Notification.objects.visible_to(user).saying_if_read_by(user).saying_if_open()
    home["news"] = list(news.order_by("-created_at", "-id")[:SHOWN])
    if all(step.is_done for step in home["steps"] if step.is_needed):
        home["steps"] = []
    return {**context, "home": home, "chart_options": json.dumps(OPTIONS)}


def _accounts(home: dict[str, Any], *, may_manage: bool) -> None:
    figures = summary(HAS_PROBLEM)
    accounts = reverse("admin:avito_accounts_account_changelist")
    if may_manage:
        is_new = home["is_new"] = figures["first"] is None or figures["first"] > timezone.now() - NEW
        is_answered = Message.objects.exclude(written_by=None).exists()
        home["steps"] += [
            Step(_("Add an account"), reverse("admin:avito_accounts_account_add"), figures["any"]),
            Step(_("Connect it to Avito: a button on the account’s page"), accounts, figures["is_connected"]),
            Step(_("Answer the first message of a buyer"), reverse("chats_inbox"), is_answered, is_new),
        ]
    if not figures["any"]:
        return
    if figures["problems"]:
        home["problems"] += _troubles(f"{accounts}?connection=problems", may_manage=may_manage)
    home["cards"] += [
        Card(
            _("Accounts connected"), f"{figures['connected']} / {figures['total']}", shown.link(accounts, _("accounts"))
        ),
        Card(
            _("Online now"),
            figures["online"],
            shown.link(reverse("admin:messenger_presence_changelist"), _("eternal online")),
        ),
    ]
    first = moscow_today() - timedelta(days=DAYS - 1)
    rows = DailyStats.objects.filter(date__gte=first).values("date").order_by("date")
    days = {row["date"]: row for row in rows.annotate(views=Sum("views"), contacts=Sum("contacts"))}
    dates = [first + timedelta(days=number) for number in range(DAYS)]
    yesterday = days.get(dates[-2], {})
    for name, title, now in (
        ("views", _("Views today"), figures["views"]),
        ("contacts", _("Contacts today"), figures["contacts"]),
    ):
        note = _("yesterday, the whole day: %(count)s") % {"count": shown.number(yesterday.get(name))}
        home["cards"].append(Card(title, now, note))
    if days:
        for name, title in (("views", _("Views")), ("contacts", _("Contacts"))):
            values = [days.get(day, {}).get(name) for day in dates]
            home["plots"].append(plot(title, dates, values, DAYS))
    low = Account.objects.filter(balance_real__lt=LOW_BALANCE_RUB).order_by("balance_real")
    for account in low[:SHOWN]:
        text = _("The balance of %(account)s runs low: %(balance)s.")
        told = {"account": account.name, "balance": shown.roubles(account.balance_real)}
        href = reverse("admin:avito_accounts_account_change", args=[account.pk])
        home["problems"].append(Problem(text % told, href, _("Open the account")))


def _troubles(all_of_them: str, *, may_manage: bool) -> list[Problem]:
    """What is wrong with the first accounts that have a problem, and where the others stand."""
    rows = Account.objects.filter(HAS_PROBLEM).select_related("authorization", "proxy")
    troubled = list(rows.order_by(PROBLEMS_FIRST, "name")[: SHOWN + 1])
    found = []
    for account in troubled[:SHOWN]:
        page = reverse("admin:avito_accounts_account_change", args=[account.pk])
        known = overview.problems(account, may_change=may_manage)
        problem = known[0] if known else Problem(account.get_connection_status_display())
        way_on = (problem.href, problem.remedy) if problem.remedy else (page, _("Open the account"))
        found.append(Problem(f"{account.name}: {problem.text}", *way_on))
    if len(troubled) > SHOWN:
        found.append(Problem(_("More accounts have problems."), all_of_them, _("Show them")))
    return found


def _chats(home: dict[str, Any]) -> None:
    unread = Chat.objects.filter(unread_count__gt=0).aggregate(count=Count("pk"), oldest=Min("last_message_at"))
    note = (
        _("the longest waits for %(time)s") % {"time": timesince(unread["oldest"], depth=1)} if unread["oldest"] else ""
    )
    inbox = reverse("chats_inbox")
    home["cards"].append(Card(_("Unread chats"), shown.link(inbox, shown.number(unread["count"])), note))


def _rent(home: dict[str, Any], user: User, *, may_enter: bool) -> None:
    """A host's own properties; a superuser's are all."""
    mine = Property.objects.all() if user.is_superuser else Property.objects.owned_by(user)
    count = mine.count()
    if may_enter:
        home["steps"] += _rent_steps(mine, bool(count), is_needed=is_host(user) or bool(count) or home["is_new"])
    if not count:
        return
    connections = Integration.objects.connected().filter(property__in=mine)
    connected = list(connections.select_related("task", "property", "account__authorization").order_by("pk")[:500])
    troubled = [(one, health) for one in connected if (health := health_of(one)).status not in ("ok", "syncing", "off")]
    page = "admin:integrations_str_integration_change"
    for one, health in troubled[:SHOWN]:
        text = _("Calendar of %(property)s: %(reason)s") % {"property": one.property.name, "reason": health.detail}
        home["problems"].append(Problem(text, reverse(page, args=[one.pk]), _("Open the connection")))
    conflicts = Conflict.objects.filter(property__in=mine, solved_at=None).count()
    if conflicts:
        text = _("Bookings that claim the same nights: %(count)s.") % {"count": conflicts}
        href = reverse("admin:integrations_str_conflict_changelist")
        home["problems"].append(Problem(text, href, _("Show them")))
    properties = reverse("admin:integrations_str_property_changelist")
    well = len(connected) - len(troubled)
    home["cards"].append(
        Card(_("Calendars in agreement"), f"{well} / {count}", shown.link(properties, _("properties")))
    )
    arrivals = Booking.objects.filter(property__in=mine, holds=True, check_in__gte=moscow_today())
    home["arrivals"] = list(arrivals.select_related("property").order_by("check_in", "pk")[:SHOWN])


def _rent_steps(mine: QuerySet[Property], has_any: bool, *, is_needed: bool) -> list[Step]:
    add, all_of_them = (reverse(f"admin:integrations_str_property_{name}") for name in ("add", "changelist"))
    is_connected = has_any and Integration.objects.filter(property__in=mine).exists()
    return [
        Step(_("Add a property, if you rent out by the day"), add, has_any, is_needed),
        Step(_("Connect it to its item at Avito: its page leads there"), all_of_them, is_connected, is_needed),
    ]


def _processes(home: dict[str, Any]) -> None:
    """What an installation stands on; said only when it does not hold."""
    alive, page = set(Process.objects.alive().values_list("kind", flat=True)), reverse("system")
    for kind, advice in NOT_ALIVE.items():
        if kind not in alive:
            home["problems"].append(Problem(str(advice), page, _("System state")))
    dead = queues.of_status(WebhookEvent.Status.DEAD)[: queues.MANY].count()
    if dead:
        href = reverse("admin:chats_webhookevent_changelist") + "?status__exact=dead"
        text = _("Deliveries from Avito that could not be used: %(count)s.") % {"count": dead}
        home["problems"].append(Problem(text, href, _("Show them")))
