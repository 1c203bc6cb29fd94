"""An account at a glance: what is wrong and what helps, its figures now, and over time."""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Min, Q, Sum
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from avito_accounts import statistics, webhooks
from avito_accounts.admin import shown
from avito_accounts.api import error_of, proxy_error_of
from avito_accounts.errors import words
from avito_accounts.models import IS_ONLINE, Account, DailyStats, Proxy, moscow_today

PERIODS = (7, 30, 90, 270)
DAYS = 30
GREY = "#9ca3af"
OPTIONS = {
    "animation": False,
    "responsive": True,
    "maintainAspectRatio": False,
    "interaction": {"mode": "index", "intersect": False},
    "plugins": {"legend": {"display": False}},
    "scales": {
        "x": {"grid": {"display": False}, "ticks": {"color": GREY, "maxTicksLimit": 7, "maxRotation": 0}},
        "y": {"beginAtZero": True, "grid": {}, "ticks": {"color": GREY, "precision": 0, "maxTicksLimit": 5}},
    },
}
"""Of Chart.js, in place of Unfold's: every plot begins at zero and has readable axes."""

PARTS: dict[str, Any] = {
    "balance": gettext_lazy("balance"),
    "items": gettext_lazy("listings"),
    "stats": gettext_lazy("views and contacts"),
    "accountInfo": gettext_lazy("profile"),
}


def part(name: str) -> str:
    """A part of a synchronisation in the reader's language."""
    return str(PARTS.get(name, name))


@dataclass(frozen=True)
class Problem:
    text: str
    href: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Card:
    title: str
    value: Any
    note: Any = ""


@dataclass(frozen=True)
class Plot:
    title: str
    total: str
    data: str
    is_wide: bool = False


@dataclass(frozen=True)
class Overview:
    problems: list[Problem]
    cards: list[Card]
    plots: list[Plot]
    advice: str
    days: int
    periods: tuple[int, ...] = PERIODS
    options: str = json.dumps(OPTIONS)


def of(account: Account, wanted_days: str, *, may_change: bool) -> Overview:
    """What the page of an account shows above the form; `wanted_days` is what the address says."""
    days = int(wanted_days) if wanted_days in {str(period) for period in PERIODS} else DAYS
    found = plots(account, days)
    return Overview(
        problems=problems(account, may_change=may_change),
        cards=cards(account, may_change=may_change),
        plots=found,
        advice="" if found else advice(account),
        days=days,
    )


def summary(has_problem: Q) -> dict[str, Any]:
    """All accounts in a few figures, in one query."""
    found: dict[str, Any] = Account.objects.aggregate(
        total=Count("pk"),
        problems=Count("pk", filter=has_problem),
        connected=Count("pk", filter=Q(connection_status="connected")),
        consented=Count("authorization"),
        first=Min("created_at"),
        online=Count("pk", filter=IS_ONLINE),
        balance=Sum("balance_real"),
        views=Sum("views_today", filter=Q(stats_on=moscow_today())),
        contacts=Sum("contacts_today", filter=Q(stats_on=moscow_today())),
    )
    counts = {name: shown.number(found[name]) for name in ("total", "connected", "online", "views", "contacts")}
    is_connected = bool(found["connected"] or found["consented"])
    return {
        **found,
        **counts,
        "any": found["total"],
        "is_connected": is_connected,
        "balance": shown.roubles(found["balance"]),
    }


def problems(account: Account, *, may_change: bool) -> list[Problem]:
    """What does not work, in words, each with the place where it can be helped."""
    found = []
    error = error_of(account.connection_error_code, account.connection_error_detail)
    proxy_error = proxy_error_of(account.proxy)
    if error and not (proxy_error and error["code"] == "proxy_failed"):
        needs_consent = account.connection_status == Account.ConnectionStatus.NEEDS_RECONNECT
        href = reverse("admin:avito_accounts_account_connect", args=[account.pk])
        remedy = (href, _("Connect again")) if needs_consent and may_change else ()
        found.append(Problem(error["detail"], *remedy))
    if proxy_error and account.proxy:
        href = reverse("admin:avito_accounts_proxy_change", args=[account.proxy.pk])
        text = _("The proxy %(proxy)s does not work: %(reason)s.")
        told = {"proxy": shown.proxy_place(account.proxy), "reason": shown.proxy_reason(account.proxy)}
        found.append(Problem(text % told, *((href, _("Open the proxy")) if may_change else ())))
    online_error = error_of(account.online_error_code, account.online_error_detail)
    if online_error and account.eternal_online_enabled:
        text = _("Eternal online does not work. %(reason)s") % {"reason": online_error["detail"]}
        found.append(Problem(text, online_href(account), _("Signs of life")))
    webhook_error = error_of(account.webhook_error_code, account.webhook_error_detail)
    is_told = account.webhook_error_code == account.connection_error_code
    if webhook_error and not is_told and webhook_state(account) in ("lost", "never"):
        text = _("Avito does not deliver messages here. %(reason)s") % {"reason": webhook_error["detail"]}
        found.append(Problem(text, *((webhook_href(account), _("Subscribe the webhook")) if may_change else ())))
    if account.sync_failures:
        parts = "; ".join(failed_parts(account))
        found.append(Problem(_("Not all figures could be read: %(parts)s") % {"parts": parts}))
    return found


def failed_parts(account: Account) -> list[str]:
    return [f"{part(name)}: {words(code)}" for name, code in account.sync_failures.items()]


def advice(account: Account) -> str:
    """What to do while there are no figures."""
    if account.connection_status == Account.ConnectionStatus.CONNECTED:
        return _("There are no figures yet. Press “Read figures now”; from then on they are read by themselves.")
    return _("There are no figures yet. Connect the account to Avito; they are then read by themselves.")


def cards(account: Account, *, may_change: bool) -> list[Card]:
    proxy = account.proxy
    return [
        Card(_("Connection"), shown.connection_label(account), _checked(account.connection_checked_at)),
        Card(_("Proxy"), shown.proxy_label(proxy), proxy_note(proxy)),
        Card(capfirst(_("online")), online_label(account), online_note(account)),
        Card(capfirst(_("balance")), shown.roubles(account.balance_real), bonus(account)),
        Card(capfirst(_("listings")), shown.number(account.ads_count)),
        Card(capfirst(_("views today")), shown.number(account.views_of_today), _in_30_days(account.views_count)),
        Card(
            capfirst(_("contacts today")), shown.number(account.contacts_of_today), _in_30_days(account.contacts_count)
        ),
        Card(capfirst(_("figures read")), shown.ago(account.last_sync_at), read_in_part(account)),
        Card(_("Webhook"), webhook_label(account), webhook_note(account, may_change=may_change)),
    ]


def _checked(at: Any) -> str:
    return format_html("{} {}", _("checked"), shown.ago(at)) if at else ""


def proxy_note(proxy: Proxy | None) -> str:
    if proxy is None:
        return _("calls go out directly")
    return " · ".join(filter(None, (shown.proxy_place(proxy), shown.latency(proxy.latency_ms))))


def read_in_part(account: Account) -> str:
    """A mark when the last synchronisation could not read everything; it says what when pointed at."""
    return shown.label("warning", _("in part"), "; ".join(failed_parts(account))) if account.sync_failures else ""


def _in_30_days(count: int | None) -> str:
    return "" if count is None else _("%(count)s in 30 days") % {"count": shown.number(count)}


def bonus(account: Account) -> str:
    if not account.balance_bonus:
        return ""
    return _("bonus %(sum)s") % {"sum": shown.roubles(account.balance_bonus)}


def online_label(account: Account) -> str:
    """A label that says why not when pointed at."""
    if account.is_online:
        return shown.label("success", _("online"))
    if not account.eternal_online_enabled:
        return shown.label("default", _("off"))
    error = error_of(account.online_error_code, account.online_error_detail)
    return shown.label("danger" if error else "info", _("not online"), error["detail"] if error else "")


def online_since(account: Account) -> SafeString | str:
    """How and when Avito last took the account for online."""
    if account.last_online_at is None:
        return ""
    method = shown.ONLINE_METHODS.get(account.online_method, account.online_method)
    return format_html("{} {}", method, shown.ago(account.last_online_at))


def online_note(account: Account) -> SafeString | str:
    """How and when, and the way to all that was tried, for an account that has or had to do with eternal online."""
    since = online_since(account)
    if not (since or account.eternal_online_enabled):
        return ""
    return format_html("{} {}", since, shown.link(online_href(account), _("signs of life")))


def online_href(account: Account) -> str:
    return reverse("admin:messenger_presence_change", args=[account.pk])


WEBHOOK_STATES: dict[str, tuple[str, Any]] = {
    "subscribed": ("success", gettext_lazy("subscribed")),
    "off": ("default", gettext_lazy("taken off")),
    "lost": ("danger", gettext_lazy("lost")),
    "never": ("info", gettext_lazy("not subscribed")),
}


def webhook_state(account: Account) -> str:
    """One of WEBHOOK_STATES. "lost": vanished at Avito, and could not be restored yet."""
    if webhooks.is_subscribed(account):
        return "subscribed"
    if account.webhook_fingerprint == webhooks.OFF:
        return "off"
    return "lost" if account.webhook_subscribed_at and not account.webhook_fingerprint else "never"


def webhook_label(account: Account) -> str:
    return shown.label(*WEBHOOK_STATES[webhook_state(account)])


def webhook_note(account: Account, *, may_change: bool) -> SafeString | str:
    """Since when, or what to do; and when Avito was last asked."""
    state, checked = webhook_state(account), _checked(account.webhook_checked_at)
    if state == "subscribed":
        return format_html("{} {} · {}", _("subscribed"), shown.ago(account.webhook_subscribed_at), checked)
    if state == "off":
        return shown.link(webhook_href(account), _("subscribe")) if may_change else ""
    is_tried = webhooks.to_subscribe().filter(pk=account.pk).exists()
    return format_html("{} {}", _("tried again by itself") if is_tried else "", checked)


def webhook_href(account: Account) -> str:
    return reverse("admin:avito_accounts_account_subscribe", args=[account.pk])


# Over time


def plots(account: Account, days: int) -> list[Plot]:
    """The last Moscow days as lines; days of which nothing is known are gaps. None at all without any figure."""
    today = statistics.today()
    dates = [today - timedelta(days=days - 1 - number) for number in range(days)]
    rows = {row.date: row for row in DailyStats.objects.filter(account=account, date__gte=dates[0])}
    if not rows:
        return []

    def values(name: str) -> list[Any]:
        return [getattr(rows.get(day), name, None) for day in dates]

    views, contacts, favorites = values("views"), values("contacts"), values("favorites")
    ads, balance = values("ads_count"), values("balance_real")
    return [
        plot(_("Views"), dates, views, days, is_wide=True),
        plot(_("Contacts"), dates, contacts, days),
        plot(_("Favourites"), dates, favorites, days),
        _plot(_("Active listings"), dates, ads, shown.number(_last(ads))),
        _plot(_("Balance, ₽"), dates, balance, shown.roubles(_last(balance))),
    ]


def plot(title: str, dates: list[date], values: list[Any], days: int, *, is_wide: bool = False) -> Plot:
    """What adds up, day by day; nothing for a day of which nothing is known."""
    return _plot(title, dates, values, _sum(values, days), is_wide=is_wide)


def _plot(title: str, dates: list[date], values: list[Any], total: str, *, is_wide: bool = False) -> Plot:
    numbers = [float(value) if isinstance(value, Decimal) else value for value in values]
    line = {
        "label": title,
        "data": numbers,
        "borderColor": "var(--color-primary-600)",
        "borderWidth": 2,
        "pointRadius": [3 if _stands_alone(numbers, index) else 0 for index in range(len(numbers))],
        "pointHoverRadius": 4,
        "pointBackgroundColor": "#9333ea",
        "tension": 0.2,
    }
    labels = [date_format(day, "d.m") for day in dates]
    return Plot(title, total, json.dumps({"labels": labels, "datasets": [line]}), is_wide)


def _stands_alone(values: list[Any], index: int) -> bool:
    """A day between gaps, which no line would show."""
    around = [*values[max(0, index - 1) : index], *values[index + 1 : index + 2]]
    return all(value is None for value in around)


def _sum(values: list[Any], days: int) -> str:
    total = shown.number(sum(value or 0 for value in values))
    return _("%(total)s in %(days)s days") % {"total": total, "days": days}


def _last(values: list[Any]) -> Any:
    return next((value for value in reversed(values) if value is not None), None)
