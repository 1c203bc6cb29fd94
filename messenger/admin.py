"""Eternal online in the back office: who is online and how, who is not and why, and each account's signs of life."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Value, When
from django.db.models.functions import Extract, Floor
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

import avito
from api.admin import RoleModelAdmin, asks_first
from api.roles import permissions_of
from avito_accounts.admin import shown
from avito_accounts.admin.overview import GREY, OPTIONS, Card
from avito_accounts.errors import AccountUnusable, code_of, text_of, words
from avito_accounts.models import IS_LEFT_ALONE, IS_ONLINE, Account
from messenger import presence
from messenger.models import Presence, PresenceAttempt

SET_ONLINE_AT_ONCE = 50
"""Not more accounts are set online by one action: whoever pressed the button waits for it."""
STEP, STEPS = timedelta(minutes=5), 12
ROW, ROWS = timedelta(hours=6), 4
WIDTH = 1000
LISTED = 30
COLOURS = {"status": "#16a34a", "activity": "#2563eb", "failed": "#dc2626"}
KINDS = {**shown.ONLINE_METHODS, "failed": gettext_lazy("not accepted")}

IS_ENABLED = Q(eternal_online_enabled=True)
IS_FAILING = IS_ENABLED & Q(online_failures__gt=0) & ~IS_LEFT_ALONE
PROBLEMS_FIRST = Case(
    When(IS_LEFT_ALONE, then=Value(0)),
    When(IS_FAILING, then=Value(1)),
    When(IS_ENABLED & ~IS_ONLINE, then=Value(2)),
    When(IS_ENABLED, then=Value(3)),
    default=Value(4),
)
IN_STACKS = {
    **OPTIONS,
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"color": GREY, "maxTicksLimit": 6}},
        "y": {"stacked": True, "beginAtZero": True, "grid": {}, "ticks": {"color": GREY, "precision": 0}},
    },
}
"""Of Chart.js: what Avito accepted and what failed, one above the other."""


class EnabledFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("eternal online"), "enabled"
    answers = {
        "yes": (gettext_lazy("switched on"), IS_ENABLED),
        "no": (gettext_lazy("switched off"), ~IS_ENABLED),
    }


class StateFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "state"
    answers = {
        "failing": (gettext_lazy("failing"), IS_FAILING),
        "left-alone": (gettext_lazy("left alone, needs reconnecting"), IS_LEFT_ALONE),
        "waiting": (gettext_lazy("waiting for a sign"), IS_ENABLED & ~IS_ONLINE & ~IS_LEFT_ALONE & ~IS_FAILING),
    }


class MethodFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("online"), "online"
    answers = {
        "status": (shown.ONLINE_METHODS["status"], IS_ONLINE & Q(online_method="status")),
        "activity": (shown.ONLINE_METHODS["activity"], IS_ONLINE & Q(online_method="activity")),
    }


@admin.register(Presence)
class PresenceAdmin(RoleModelAdmin):
    """Accounts are changed on their own pages: here they are watched, switched on and off, and set online."""

    to_see = "accounts.read"
    list_display = ("account", "state", "last_sign", "next_sign", "interval", "failures")
    list_filter = (EnabledFilter, StateFilter, MethodFilter)
    search_fields = ("name", "avito_user_id")
    search_help_text = gettext_lazy("name or number at Avito")
    list_fullwidth = True
    list_before_template = "messenger/presence_summary.html"
    change_form_outer_before_template = "messenger/presence.html"
    ordering = (PROBLEMS_FIRST.asc(), "name")
    actions = ("enable_selected", "disable_selected", "set_online_selected")
    actions_detail = ("enable", "disable", "set_online")

    def has_manage_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return "accounts.manage" in permissions_of(request.user)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Presence]:
        return super().get_queryset(request).select_related("authorization")  # type: ignore[no-any-return]

    def get_fieldsets(self, request: HttpRequest, obj: Presence | None = None) -> Any:
        return ()  # the page shows no field as it is stored

    def get_urls(self) -> list[URLPattern]:
        signs = self.admin_site.admin_view(self.signs_view)
        return [path("<int:account_id>/signs/", signs, name="messenger_presence_signs"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        summary = SimpleLazyObject(lambda: summary_of(timezone.now()))  # an action shows no list
        return super().changelist_view(request, {**(extra_context or {}), "summary": summary})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        account = self.get_object(request, object_id) if object_id and self.has_view_permission(request) else None
        context = {**(extra_context or {}), **(page_of(account, request) if account else {})}
        return super().changeform_view(request, object_id, form_url, context)

    def signs_view(self, request: HttpRequest, account_id: int) -> HttpResponse:
        """The part of the page that changes, by itself."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        account = get_object_or_404(self.get_queryset(request), pk=account_id)
        return TemplateResponse(request, "messenger/presence_signs.html", page_of(account, request))

    # The list

    @admin.display(description=gettext_lazy("account"), ordering="name")
    def account(self, account: Presence) -> SafeString:
        number = f"№ {account.avito_user_id}" if account.avito_user_id else ""
        return shown.noted(account.name, number, room=8)

    @admin.display(description=gettext_lazy("state"))
    def state(self, account: Presence) -> SafeString:
        return shown.noted(state_label(account), state_note(account), room=11)

    @admin.display(description=gettext_lazy("last accepted"), ordering="last_online_at")
    def last_sign(self, account: Presence) -> SafeString:
        return shown.noted(shown.ago(account.last_online_at), shown.ONLINE_METHODS.get(account.online_method, ""))

    @admin.display(description=gettext_lazy("next sign"), ordering="online_due_at")
    def next_sign(self, account: Presence) -> str:
        return next_sign(account)

    @admin.display(description=gettext_lazy("interval"), ordering="online_keep_alive_interval")
    def interval(self, account: Presence) -> str:
        return interval(account)

    @admin.display(description=gettext_lazy("failures in a row"), ordering="online_failures")
    def failures(self, account: Presence) -> str:
        return shown.number(account.online_failures or None)

    # With one account

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """The switch that would change nothing is not there."""
        account = self.get_object(request, str(object_id))
        is_on = account is not None and Presence.objects.filter(IS_ENABLED, pk=account.pk).exists()
        useless = "enable" if is_on else "disable"
        return [one for one in super().get_actions_detail(request, object_id) if one.path != useless]

    @action(
        description=gettext_lazy("Switch on"),
        url_path="enable",
        permissions=["manage"],
        icon="sensors",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = presence.enable(_account(object_id))
        text = _("%(name)s is kept online from now on; the first sign of life follows within seconds.")
        messages.success(request, text % {"name": account})
        return _back_to(account)

    @action(
        description=gettext_lazy("Switch off"),
        url_path="disable",
        permissions=["manage"],
        icon="sensors_off",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = presence.disable(_account(object_id))
        messages.success(request, _("%(name)s is left alone from now on.") % {"name": account})
        return _back_to(account)

    @action(
        description=gettext_lazy("Set online now"),
        url_path="set-online",
        permissions=["manage"],
        icon="wifi_tethering",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def set_online(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = _account(object_id)
        self._tell(request, [(account, _set_online(account))])
        return _back_to(account)

    # With many accounts

    @admin.action(description=gettext_lazy("Switch on"), permissions=["manage"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Presence]) -> None:
        count = presence.enable_many(Account.objects.filter(pk__in=queryset.values("pk")))
        text = _("Switched on: %(count)s. The first signs of life come spread, each within the account's interval.")
        messages.success(request, text % {"count": shown.number(count)})

    @admin.action(description=gettext_lazy("Switch off"), permissions=["manage"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Presence]) -> None:
        count = presence.disable_many(Account.objects.filter(pk__in=queryset.values("pk")))
        messages.success(request, _("Switched off: %(count)s.") % {"count": shown.number(count)})

    @admin.action(description=gettext_lazy("Set online now"), permissions=["manage"])
    def set_online_selected(self, request: HttpRequest, queryset: QuerySet[Presence]) -> None:
        ids = list(queryset.values_list("pk", flat=True)[: SET_ONLINE_AT_ONCE + 1])
        if len(ids) > SET_ONLINE_AT_ONCE:
            ids.pop()
            text = _("Only the first %(count)s were taken. Choose the others next.")
            messages.warning(request, text % {"count": SET_ONLINE_AT_ONCE})
        accounts = list(Account.objects.select_related("authorization", "proxy").filter(pk__in=ids).order_by("name"))
        self._tell(request, zip(accounts, shown.in_parallel(_set_online, accounts), strict=True))

    def _tell(self, request: HttpRequest, results: Iterable[tuple[Account, Exception | None]]) -> None:
        done = []
        for account, error in results:
            if error is None:
                done.append(account)
            else:
                messages.error(request, f"{account}: {words(code_of(error), text_of(error))}")
        if done:
            text = _("Avito has accepted a sign of life: %(accounts)s.")
            messages.success(request, text % {"accounts": ", ".join(map(str, done))})


def _account(object_id: str) -> Account:
    if not object_id.isdecimal():
        raise Http404
    return get_object_or_404(Account.objects.select_related("authorization", "proxy"), pk=object_id)


def _back_to(account: Account) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:messenger_presence_change", args=[account.pk]))


def _set_online(account: Account) -> Exception | None:
    try:
        presence.set_online(account)
    except (avito.AvitoError, AccountUnusable) as error:
        return error
    return None


# How an account fares


def state_label(account: Presence) -> str:
    if not account.eternal_online_enabled:
        return shown.label("default", _("off"))
    if account.left_alone_code:
        return shown.label("warning", _("left alone"))
    if account.online_failures:
        return shown.label("danger", _("failing"))
    return shown.label("success", _("online")) if account.is_online else shown.label("info", _("waiting"))


def state_note(account: Presence) -> str:
    """Why, if it is not simply online."""
    if not account.eternal_online_enabled:
        return _("online by hand") if account.is_online else ""
    if account.left_alone_code:
        return words(account.left_alone_code)
    if account.online_failures:
        why = words(account.online_error_code, account.online_error_detail)
        if not account.is_online:
            return why
        return _("%(why)s Still online.") % {"why": why if why.endswith(".") else f"{why}."}
    if account.is_online:
        return ""
    return _("The last sign is too old.") if account.last_online_at else _("No sign yet.")


def next_sign(account: Presence) -> str:
    due_at, now = account.next_online_at, timezone.now()
    if due_at is None:
        return shown.NOTHING
    late, when = (now - due_at).total_seconds(), ""
    if late > 0.05 * account.online_keep_alive_interval + 5:
        when = format_html('<span class="text-red-600 dark:text-red-400">{}</span>', _("overdue"))
    elif late > 0:
        when = _("now")
    elif late > -60:
        when = _("within a minute")
    else:
        when = _("in %(count)s min") % {"count": round(-late / 60)}
    return format_html('<time datetime="{}" title="{}">{}</time>', due_at.isoformat(), shown.clock(due_at), when)


def interval(account: Presence) -> str:
    minutes, seconds = divmod(account.online_keep_alive_interval, 60)
    if seconds:
        return _("%(count)s s") % {"count": shown.number(account.online_keep_alive_interval)}
    return _("%(count)s min") % {"count": minutes}


def cards(account: Presence) -> list[Card]:
    method = shown.ONLINE_METHODS.get(account.online_method, "")
    return [
        Card(capfirst(_("state")), state_label(account), state_note(account)),
        Card(capfirst(_("last accepted")), shown.ago(account.last_online_at), method),
        Card(capfirst(_("next sign")), next_sign(account), _("every %(time)s") % {"time": interval(account)}),
        Card(capfirst(_("failures in a row")), shown.number(account.online_failures)),
    ]


# All accounts


def summary_of(now: datetime) -> dict[str, Any]:
    """All accounts in a few figures, and the last hour; in two queries."""
    counts: dict[str, int] = Account.objects.aggregate(
        total=Count("pk"),
        enabled=Count("pk", filter=IS_ENABLED),
        status=Count("pk", filter=MethodFilter.answers["status"][1]),
        activity=Count("pk", filter=MethodFilter.answers["activity"][1]),
        failing=Count("pk", filter=IS_FAILING),
        left_alone=Count("pk", filter=IS_LEFT_ALONE),
        waiting=Count("pk", filter=StateFilter.answers["waiting"][1]),
    )
    return {
        **{name: shown.number(count) for name, count in counts.items()},
        "any": counts["total"],
        "is_off": not counts["enabled"],
        "is_failing": counts["failing"],
        "is_left_alone": counts["left_alone"],
        "hour": last_hour(now),
    }


def last_hour(now: datetime) -> dict[str, Any] | None:
    """The signs of life of all accounts, every five minutes, as bars; None without any."""
    age = ExpressionWrapper(Value(now) - F("at"), output_field=DurationField())
    found = (
        PresenceAttempt.objects.filter(at__gt=now - STEPS * STEP, at__lte=now)
        .annotate(step=Floor(Extract(age, "epoch") / STEP.total_seconds()))
        .values("step")
        .annotate(
            status=Count("pk", filter=Q(code="", method="status")),
            activity=Count("pk", filter=Q(code="", method="activity")),
            failed=Count("pk", filter=~Q(code="")),
        )
    )
    rows = {int(row["step"]): row for row in found}
    if not rows:
        return None
    values = {kind: [rows.get(step, {}).get(kind, 0) for step in reversed(range(STEPS))] for kind in KINDS}
    bars = [
        {"label": str(KINDS[kind]), "data": values[kind], "backgroundColor": colour, "maxBarThickness": 48}
        for kind, colour in COLOURS.items()
    ]
    labels = [timezone.localtime(now - (step + 1) * STEP).strftime("%H:%M") for step in reversed(range(STEPS))]
    return {
        "counts": [_count(kind, sum(numbers)) for kind, numbers in values.items()],
        "data": json.dumps({"labels": labels, "datasets": bars}),
        "options": json.dumps(IN_STACKS),
    }


def _count(kind: str, count: int) -> dict[str, Any]:
    return {"text": KINDS[kind], "count": shown.number(count), "colour": COLOURS[kind]}


# The signs of life of one account


@dataclass(frozen=True)
class Row:
    """Some hours of the timeline. `ticks`: for each kind what Avito accepted, as a path; `failed`: one by one."""

    since: str
    until: str
    ticks: list[tuple[str, str]]
    failed: list[tuple[str, str]]
    told: str


def page_of(account: Presence, request: HttpRequest) -> dict[str, Any]:
    """What the page of an account shows: how it fares, a day of signs as ticks, and the latest ones in words."""
    now, only_failed = timezone.now(), request.GET.get("only") == "failed"
    signs = list(account.presence_attempts.filter(at__gt=now - ROWS * ROW).order_by("-at", "-id"))
    listed = [sign for sign in signs if not (only_failed and sign.ok)]
    return {
        "presence": account,
        "cards": cards(account),
        "counts": [_count(kind, sum(_kind(sign) == kind for sign in signs)) for kind in KINDS],
        "rows": [row_of(signs, now - (number + 1) * ROW) for number in reversed(range(ROWS))] if signs else [],
        "signs": [_in_words(sign) for sign in listed[:LISTED]],
        "are_more": len(listed) > LISTED,
        "only_failed": only_failed,
    }


def row_of(signs: list[PresenceAttempt], since: datetime) -> Row:
    until = since + ROW
    mine = [sign for sign in signs if since < sign.at <= until]
    told = ", ".join(f"{KINDS[kind]}: {sum(_kind(sign) == kind for sign in mine)}" for kind in KINDS)
    return Row(
        since=timezone.localtime(since).strftime("%H:%M"),
        until=timezone.localtime(until).strftime("%H:%M"),
        ticks=[
            (COLOURS[kind], " ".join(_tick(sign, since) for sign in mine if _kind(sign) == kind))
            for kind in shown.ONLINE_METHODS
        ],
        failed=[(_tick(sign, since), f"{shown.clock(sign.at)} {_why(sign)}") for sign in mine if not sign.ok],
        told=told,
    )


def _kind(sign: PresenceAttempt) -> str:
    return sign.method if sign.ok else "failed"


def _tick(sign: PresenceAttempt, since: datetime) -> str:
    """A stroke of an SVG path; kinds differ in height as well, for those who cannot tell the colours apart."""
    top = {"failed": 0, "status": 8}.get(_kind(sign), 18)
    return f"M{(sign.at - since) / ROW * WIDTH:.1f} {top}V32"


def _why(sign: PresenceAttempt) -> str:
    return words(sign.code, sign.detail)


def _in_words(sign: PresenceAttempt) -> dict[str, Any]:
    colour = {"status": "success", "activity": "info"}.get(_kind(sign), "danger")
    return {
        "at": sign.at,
        "clock": f"{timezone.localtime(sign.at):%H:%M:%S}",
        "label": shown.label(colour, KINDS.get(_kind(sign), sign.method)),
        "latency": shown.latency(sign.latency_ms),
        "why": "" if sign.ok else _why(sign),
        "code": sign.code,
    }
