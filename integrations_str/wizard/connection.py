"""A connected property: how it fares, and what can be done about it."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

import avito
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from integrations_str import calendar, connecting, health, queue
from integrations_str.models import Booking, Conflict, Integration, Property
from integrations_str.state import state_of
from integrations_str.wizard.page import Page
from integrations_str.wizard.troubles import AGAIN, Trouble
from integrations_str.wizard.words import moment, preview_of, shown_spans

# How the connection fares; of the troubles, the one that is a question stands by itself.
TONES = {
    "ok": ("good", gettext_lazy("In agreement with Avito")),
    "syncing": ("busy", gettext_lazy("Being synchronised")),
    "error": ("bad", gettext_lazy("Trouble")),
    "consent_needed": ("warn", gettext_lazy("Waits for your consent")),
    "needs_reconnect": ("bad", gettext_lazy("Needs reconnecting")),
    "item_unavailable": ("bad", gettext_lazy("The listing is out of reach")),
    "off": ("quiet", gettext_lazy("Paused")),
}
WELL = {
    "ok": gettext_lazy("Prices, minimum stays and free nights are at Avito as they are here."),
    "syncing": gettext_lazy("What has changed is on its way to Avito. That takes seconds."),
    "off": gettext_lazy("Nothing is sent and no bookings are read until you go on. What you change meanwhile is kept."),
}
WHAT_TO_DO = {
    "token_expired": gettext_lazy("Press “Reconnect” and agree at Avito. What has changed meanwhile then goes out."),
    "avito_forbidden": gettext_lazy("Look at Avito whose listing it is, then press “Synchronise now”."),
    "avito_not_found": gettext_lazy("Publish it again at Avito, or disconnect here and connect another listing."),
    "avito_rejected": gettext_lazy("Open the calendar and change these nights."),
    "consent_needed": gettext_lazy("Look through the nights below and agree, or change them in the calendar."),
    "closing_late": gettext_lazy("The cause may be at Avito. “Synchronise now” tries at once."),
    "worker_died": gettext_lazy("Ask the administrator of this service."),
}
IT_GOES_ON = gettext_lazy("It is tried again by itself. “Synchronise now” tries at once.")


class Connection(Page):
    """A connected property."""

    template = "integrations_str/connected.html"

    def __init__(self, request: HttpRequest, property: Property, integration: Integration) -> None:
        super().__init__(request, property)
        self.integration = integration
        self.edits = request.GET.get("edit", "") if request.method == "GET" else ""

    def show(self) -> HttpResponse:
        integration = self.integration
        found = health.health_of(integration)
        tone, word = TONES["consent_needed" if found.code == "consent_needed" else found.status]
        cause = found.detail if found.code else ""
        well = WELL.get(found.status, "")
        state = state_of(integration)
        remedy = WHAT_TO_DO.get(found.code, IT_GOES_ON) if found.code else ""
        context: dict[str, Any] = {
            "integration": integration,
            "account": integration.account,
            "status": found.status,
            "tone": tone,
            "word": word,
            "cause": cause or well,
            "remedy": remedy,
            "is_new": "new" in self.request.GET or not integration.first_pushed_at,
            "bookings_read": _living_bookings(integration),
            "last_pull": moment(integration.last_pull_at),
            "last_push": moment(integration.last_push_at),
            "connected_at": moment(integration.connected_at),
            "pending_days": len(state.changes.days),
            "waits": integration.task.waits_for_consent,
            "edits": self.edits,
        }
        if integration.task.waits_for_consent:
            conflicts = Conflict.objects.filter(property=self.property, solved_at=None)
            context["opens"] = shown_spans(calendar.date_ranges(state.consent_needed_for))
            context["overlaps"] = shown_spans([(one.start, one.end) for one in conflicts])
        return self.render(**context, **(self.of_markup() if self.edits == "markup" else {}))

    def of_markup(self) -> dict[str, Any]:
        markup, typed, wrong = self.markup(self.integration.markup_percent)
        return {"typed_markup": typed, "wrong_markup": wrong, "preview": preview_of(self.property, markup)}

    def welcome(self, account: Account) -> HttpResponse:
        if account.pk == self.integration.account_id:
            messages.success(self.request, _("Avito has given access again. What has changed goes out now."))
        return self.to()

    def reconnect(self) -> HttpResponse | None:
        return self.authorize(self.integration.account)

    def sync(self) -> HttpResponse:
        queue.due_now(self.integration)
        return self.to()

    def pause(self) -> HttpResponse:
        connecting.change(self.integration, is_active=False)
        return self.to()

    def go_on(self) -> HttpResponse:
        connecting.change(self.integration, is_active=True)
        return self.to()

    def agree(self) -> HttpResponse:
        connecting.change(self.integration, consents=True)
        return self.to(new=1)

    def recalculate(self) -> HttpResponse | None:
        """As in the steps."""
        self.edits = "markup"
        return None

    def set_markup(self) -> HttpResponse | None:
        markup, _typed, wrong = self.markup(self.integration.markup_percent)
        if wrong:
            self.edits, self.trouble = "markup", Trouble(wrong[0])
            return None
        connecting.change(self.integration, markup_percent=markup)
        messages.success(self.request, _("The markup is saved. The new prices go out now."))
        return self.to()

    def disconnect(self) -> HttpResponse | None:
        choice = self.request.POST.get("sales", "")
        if choice not in ("close", "leave"):
            return self.to(edit="disconnect")
        try:
            connecting.disconnect(self.integration, close_sales=choice == "close")
        except connecting.Busy:
            what = _("Nothing was disconnected: the calendar is being sent right now.")
            self.trouble = Trouble(what, AGAIN)
        except (avito.AvitoError, AccountUnusable) as error:
            why = self.trouble_of(error, self.integration.account).what
            self.trouble = Trouble(
                _("Nothing was disconnected, since the nights could not be closed at Avito. %(why)s") % {"why": why},
                _("Try again later, or disconnect without closing and close the nights at Avito by hand."),
            )
        else:
            messages.success(self.request, _("The property is disconnected from Avito. Its bookings stay here."))
            return self.to()
        self.edits = "disconnect"
        return None

    deeds = {
        "reconnect": reconnect,
        "sync": sync,
        "pause": pause,
        "go-on": go_on,
        "agree": agree,
        "preview": recalculate,
        "markup": set_markup,
        "disconnect": disconnect,
    }


def _living_bookings(integration: Integration) -> int:
    rows = Booking.objects.filter(
        property=integration.property, source=Booking.Source.AVITO, item_id=integration.item_id
    )
    return rows.exclude(status=Booking.Status.CANCELLED).filter(check_out__gt=integration.property.today()).count()
