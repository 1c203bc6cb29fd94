"""Connections of properties to items at Avito: how they fare, what was sent and read, what comes next."""

import json
from datetime import date
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action
from unfold.views import ChangeList

from api.admin import WithOverview, asks_first
from avito_accounts.admin import shown
from avito_accounts.fields import look
from integrations_str import calendar, connecting, health, log, queue
from integrations_str.admin import common
from integrations_str.admin.common import Card, OwnModelAdmin, Problem
from integrations_str.admin.queue import when
from integrations_str.api.preview import preview_of
from integrations_str.models import Integration
from integrations_str.push import is_in_conflict
from integrations_str.state import State, state_of, unsettled_states

LOG_SHOWN, PREVIEW_SHOWN, QUARANTINE_SHOWN = 50, 30, 20

IS_CONNECTED = Q(disconnected_at=None)
IS_ON = IS_CONNECTED & Q(is_active=True)
QUARANTINE_REASONS: dict[str, Any] = {
    "not_an_object": gettext_lazy("it is not a booking at all"),
    "bad_id": gettext_lazy("its number is not a number"),
    "id_repeated": gettext_lazy("several bookings bear its number"),
    "no_dates": gettext_lazy("it has no dates"),
    "bad_dates": gettext_lazy("its dates are no dates"),
    "dates_reversed": gettext_lazy("it ends before it begins"),
}


class StateFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "state"
    answers = {
        "trouble": (
            gettext_lazy("with trouble"),
            IS_ON
            & (
                Q(account__connection_status="needs_reconnect")
                | ~Q(task__push_error_code="")
                | ~Q(task__pull_error_code="")
                | Q(task__dead_at__isnull=False)
                | Q(task__waits_for_consent=True)
            ),
        ),
        "consent": (gettext_lazy("waiting for consent"), IS_ON & Q(task__waits_for_consent=True)),
        "on": (gettext_lazy("connected"), IS_ON),
        "paused": (gettext_lazy("paused"), IS_CONNECTED & Q(is_active=False)),
        "over": (gettext_lazy("disconnected"), ~IS_CONNECTED),
    }


class Connections(ChangeList):
    """A page of rows that know how many nights Avito does not have as they should be; in a handful of queries."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)  # type: ignore[has-type]
        states = unsettled_states([row for row in rows if row.disconnected_at is None])
        for row in rows:
            row.pending = None if row.disconnected_at else pending_days(row, states.get(row.pk))
        self.result_list = rows


@admin.register(Integration)
class IntegrationAdmin(WithOverview, OwnModelAdmin):
    overview_name = "page"
    list_display = ("place", "state", "pending_nights", "markup", "last_push", "last_pull")
    list_filter = (StateFilter,)
    list_select_related = ("task", "property__owner", "account__authorization")
    search_fields = ("property__name", "item_id")
    search_help_text = gettext_lazy("property, or item at Avito")
    ordering = (F("disconnected_at").desc(nulls_first=True), "property__name", "-id")
    change_form_outer_before_template = "admin/integrations_str/integration/page.html"
    actions_detail = ("sync_now", "agree", "reconnect", "pause", "go_on")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Integration]:
        return super().get_queryset(request).select_related(*self.list_select_related)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Connections

    def get_fieldsets(self, request: HttpRequest, obj: Integration | None = None) -> Any:
        return ()  # the page shows no field as it is stored

    def get_urls(self) -> list[URLPattern]:
        state = self.admin_site.admin_view(self.state_view)
        return [path("<int:pk>/state/", state, name="integrations_str_integration_state"), *super().get_urls()]

    def overview_of(self, request: HttpRequest, obj: Integration) -> dict[str, Any]:
        return page_of(obj, request)

    def state_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes, by itself."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {"page": page_of(self.found(request, pk), request)}
        return TemplateResponse(request, "admin/integrations_str/integration/state.html", context)

    # The list

    @admin.display(description=gettext_lazy("property"), ordering="property__name")
    def place(self, integration: Integration) -> SafeString:
        return shown.noted(integration.property.name, f"№ {integration.item_id}", room=10)

    @admin.display(description=gettext_lazy("state"))
    def state(self, integration: Integration) -> SafeString:
        state, why = common.state_of(integration)
        return shown.noted(common.state_label(state), why, room=14)

    @admin.display(description=gettext_lazy("nights to send"))
    def pending_nights(self, integration: Any) -> str:
        return shown.number(integration.pending)

    @admin.display(description=gettext_lazy("markup"), ordering="markup_percent")
    def markup(self, integration: Integration) -> str:
        return markup_of(integration)

    @admin.display(description=gettext_lazy("last push"), ordering="last_push_at")
    def last_push(self, integration: Integration) -> str:
        return shown.ago(integration.last_push_at)

    @admin.display(description=gettext_lazy("last reading"), ordering="last_pull_at")
    def last_pull(self, integration: Integration) -> str:
        return shown.ago(integration.last_pull_at)

    # With one connection

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Buttons that would change nothing are not there."""
        integration = self.get_object(request, str(object_id))
        buttons: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        useful = useful_actions(integration) if integration else set()
        return [button for button in buttons if button.path in useful]

    @action(
        description=gettext_lazy("Synchronise now"),
        url_path="sync-now",
        permissions=["view"],
        icon="sync",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def sync_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        integration = self._connected(request, object_id)
        queue.due_now(integration)
        messages.success(request, _("Bookings are read and what differs is sent, in a moment."))
        return _back_to(integration)

    @action(
        description=gettext_lazy("Agree to the first push"), url_path="agree", permissions=["view"], icon="check_circle"
    )
    @asks_first
    def agree(self, request: HttpRequest, object_id: str) -> HttpResponse:
        integration = connecting.change(self._connected(request, object_id), consents=True)
        messages.success(request, _("You have agreed: the calendar goes out in a moment."))
        return _back_to(integration)

    @action(description=gettext_lazy("Pause"), url_path="pause", permissions=["view"], icon="pause")
    @asks_first
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        integration = connecting.change(self._connected(request, object_id), is_active=False)
        text = _(
            "Paused: Avito keeps what it has, and new bookings are not read. Close nights there by hand if needed."
        )
        messages.warning(request, text)
        return _back_to(integration)

    @action(
        description=gettext_lazy("Go on"),
        url_path="go-on",
        permissions=["view"],
        icon="play_arrow",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def go_on(self, request: HttpRequest, object_id: str) -> HttpResponse:
        integration = connecting.change(self._connected(request, object_id), is_active=True)
        messages.success(request, _("It goes on: bookings are read first, then what has changed is sent."))
        return _back_to(integration)

    @action(
        description=gettext_lazy("Connect again"),
        url_path="reconnect",
        permissions=["view"],
        icon="link",
        attrs={"data-at-once": ""},
    )
    @asks_first
    def reconnect(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Opens Avito's consent page, for the account that the connection has."""
        integration = self._connected(request, object_id)
        if integration.property.owner_id != request.user.pk:  # staff renews the account's own authorisation
            return HttpResponseRedirect(reverse("avito-authorize", args=[integration.account_id]))
        return HttpResponseRedirect(
            connecting.authorize_link(integration.property, request.user, account=integration.account)
        )

    def _connected(self, request: HttpRequest, object_id: str) -> Integration:
        integration: Integration = self.found(request, object_id)
        if integration.disconnected_at:
            raise Http404
        return integration


def _back_to(integration: Integration) -> HttpResponse:
    return HttpResponseRedirect(common.connection_href(integration.pk))


def useful_actions(integration: Integration) -> set[str]:
    """The paths of the buttons that would change something."""
    if integration.disconnected_at:
        return set()
    if not integration.is_active:
        return {"go-on"}
    if not health.is_usable(integration):
        return {"reconnect", "pause"}
    return {"sync-now", "pause", *(["agree"] if integration.task.waits_for_consent else [])}


def markup_of(integration: Integration) -> str:
    markup = integration.markup_percent.normalize()
    if not markup:
        return _("no markup")
    sign = "+" if markup > 0 else "\N{MINUS SIGN}"
    return f"{sign}{number_format(abs(markup))}\N{NBSP}%"


def pending_days(integration: Integration, state: State | None) -> int:
    """Nights in which Avito is not as it should be."""
    return len(state.changes.days) if state else integration.task.left_days


# The page


def page_of(integration: Integration, request: HttpRequest) -> dict[str, Any]:
    """What the page of a connection shows."""
    page: dict[str, Any] = {
        "integration": integration,
        "is_over": integration.disconnected_at is not None,
        "property_href": common.property_href(integration.property_id),
        "owner": common.whose(integration.property, request),
        "log": [_line(row) for row in integration.exchanges.order_by("-id")[:LOG_SHOWN]],
        "quarantine": _quarantine(integration, request),
    }
    if integration.disconnected_at:
        when_over = shown.moment(integration.disconnected_at)
        cards = [Card(_("State"), common.state_label("disconnected"), when_over)]
        return {**page, "cards": cards}
    state = state_of(integration)
    waits = integration.task.waits_for_consent
    preview = preview_in_words(state) if state.changes.days or state.base_differs else None
    return {
        **page,
        "cards": cards_of(integration, state),
        "problems": problems_of(integration),
        "closed_there": [common.stay(*span) for span in calendar.date_ranges(state.consent_needed_for)],
        "in_conflict": waits and is_in_conflict(integration),
        "waits_for_consent": waits,
        "preview": preview,
    }


def problems_of(integration: Integration) -> list[Problem]:
    """What is wrong, each with what helps."""
    found, task, pk = health.health_of(integration), integration.task, integration.pk
    if not found.code:
        return []
    if found.status == "needs_reconnect":
        return [Problem(found.detail, _action(pk, "reconnect"), _("Connect again"))]
    if found.code == "consent_needed":
        return [Problem(found.detail, _action(pk, "agree"), _("Agree to the first push"))]
    if found.code == "avito_rejected":
        return [Problem(found.detail, common.property_href(integration.property_id), _("To the property"))]
    if task.dead_at:
        text = _("Given up on %(when)s after several tries. %(why)s")
        told = {"when": shown.moment(task.dead_at), "why": found.detail}
        return [Problem(text % told, _action(pk, "sync_now"), _("Try again now"))]
    if found.status == "syncing":
        return [Problem(_("%(why)s It is tried again by itself.") % {"why": found.detail})]
    return [Problem(found.detail, _action(pk, "sync_now"), _("Try again now"))]


def _action(pk: int, name: str) -> str:
    return reverse(f"admin:integrations_str_integration_{name}", args=[pk])


def cards_of(integration: Integration, state: State) -> list[Card]:
    label, why = common.state_of(integration)
    task, left = integration.task, len(state.changes.left)
    is_asked = integration.is_active and health.is_usable(integration)
    moments = [moment for moment in (task.push_at if not task.dead_at else None, task.pull_at) if moment]
    edited = _("waits since %(when)s") % {"when": shown.moment(task.dirty_since)} if task.dirty_since else ""
    unpaid = _("unpaid bookings hold their nights") if integration.holds_pending else _("unpaid ones stay on sale")
    account = integration.account.name if integration.account else ""
    return [
        Card(_("State"), common.state_label(label), why if label == "off" else ""),
        Card(
            _("Nights to send"),
            shown.number(len(state.changes.days)),
            _("left as they are: %(nights)s") % {"nights": common.nights(left)} if left else edited,
        ),
        Card(_("Last push"), shown.ago(integration.last_push_at), _("prices, minimum stays, free nights")),
        Card(_("Last reading"), shown.ago(integration.last_pull_at), _("bookings from Avito")),
        Card(_("Next look"), when(min(moments)) if is_asked else shown.NOTHING),
        Card(_("Markup"), markup_of(integration), unpaid),
        Card(_("Item at Avito"), f"№ {integration.item_id}", account),
        Card(
            _("Property"), integration.property.name, integration.property.timezone,
            common.property_href(integration.property_id),
        ),
    ]  # fmt: skip


def preview_in_words(state: State) -> dict[str, Any]:
    """What the next push would send; all nights both included, as people count them."""
    said = preview_of(state)
    prices = [
        {
            "nights": _nights(one.first, one.last),
            "price": common.roubles(one.night_price),
            "min_stay": common.at_least(one.min_stay) if one.min_stay else "",
        }
        for one in said["prices"]
    ]
    opens = [day.date for day in state.changes.opens if day.is_open]
    closes = [day.date for day in state.changes.opens if not day.is_open]
    return {
        "count": ngettext(
            "%(count)d night differs from what Avito has.",
            "%(count)d nights differ from what Avito has.",
            said["changed_days"],
        )
        % {"count": said["changed_days"]},
        "base": said["base"] and common.roubles(said["base"]["price"]),
        "prices": prices[:PREVIEW_SHOWN],
        "more_prices": max(0, len(prices) - PREVIEW_SHOWN),
        "opens": _spans(opens),
        "closes": _spans(closes),
        "closes_all": said["closes_all"],
        "left": _spans(state.changes.left),
    }


def _spans(days: Any) -> list[str]:
    spans = calendar.date_ranges(days)
    told = [_nights(start, end - calendar.DAY) for start, end in spans[:PREVIEW_SHOWN]]
    return [*told, "…"] if len(spans) > PREVIEW_SHOWN else told


def _nights(first: date, last: date) -> str:
    """Nights by their dates, both included."""
    return common.day(first) if first == last else common.stay(first, last)


def _line(row: Any) -> dict[str, Any]:
    return {
        "at": row.at,
        "moment": timezone.localtime(row.at).strftime("%d.%m %H:%M:%S"),
        "label": shown.label("success", _("done")) if row.ok else shown.label("danger", _("did not work")),
        "action": "" if row.ok else log.undone(row),
        "words": log.words_of(row),
        "attempt": _("try %(number)s") % {"number": row.attempt} if row.attempt > 1 else "",
        "latency": shown.latency(row.latency_ms),
        "code": row.code or "ok",
    }


def _quarantine(integration: Integration, request: HttpRequest) -> list[dict[str, Any]]:
    """Rows that nobody can use; as Avito sent them for the staff in charge alone, since guests stand in them."""
    rows = integration.quarantine.order_by("-id")[:QUARANTINE_SHOWN]
    return [
        {
            "number": row.avito_booking_id,
            "reason": QUARANTINE_REASONS.get(row.reason, row.reason),
            "seen": row.seen_at,
            "raw": _readable(look(row, "raw")) if common.sees_all(request) else "",
        }
        for row in rows
    ]


def _readable(raw: str | None) -> str:
    try:
        return json.dumps(json.loads(raw or ""), ensure_ascii=False, indent=1)
    except ValueError:
        return raw or ""
