"""Conflicts: two bookings for the same nights, and what to do about it. They end by themselves."""

from typing import Any

from django.contrib import admin
from django.db.models import F, Q
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from api.admin import WithOverview
from avito_accounts.admin import shown
from integrations_str import bookings
from integrations_str.admin import common
from integrations_str.admin.common import Card, OwnModelAdmin, PropertyFilter
from integrations_str.models import Booking, Conflict


class OpenFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "state"
    answers = {
        "open": (gettext_lazy("open"), Q(solved_at=None)),
        "solved": (gettext_lazy("solved"), Q(solved_at__isnull=False)),
    }


@admin.register(Conflict)
class ConflictAdmin(WithOverview, OwnModelAdmin):
    overview_name = "page"
    list_display = ("disputed", "place", "state", "one", "other", "since_when")
    list_filter = (OpenFilter, PropertyFilter)
    search_fields = ("property__name",)
    search_help_text = gettext_lazy("property")
    list_select_related = ("property__owner", "first", "second")
    ordering = (F("solved_at").desc(nulls_first=True), "start", "id")
    change_form_outer_before_template = "admin/integrations_str/conflict/page.html"

    def get_fieldsets(self, request: HttpRequest, obj: Conflict | None = None) -> Any:
        return ()  # the page shows no field as it is stored

    def overview_of(self, request: HttpRequest, obj: Conflict) -> dict[str, Any]:
        return page_of(obj)

    @admin.display(description=gettext_lazy("disputed nights"), ordering="start")
    def disputed(self, conflict: Conflict) -> SafeString:
        count = (conflict.end - conflict.start).days
        return shown.noted(common.stay(conflict.start, conflict.end), common.nights(count))

    @admin.display(description=gettext_lazy("property"), ordering="property__name")
    def place(self, conflict: Conflict) -> SafeString:
        return common.property_link(conflict.property)

    @admin.display(description=gettext_lazy("state"), ordering="solved_at")
    def state(self, conflict: Conflict) -> str:
        return state_label(conflict)

    @admin.display(description=gettext_lazy("one booking"))
    def one(self, conflict: Conflict) -> SafeString:
        return _told(conflict.first)

    @admin.display(description=gettext_lazy("the other one"))
    def other(self, conflict: Conflict) -> SafeString:
        return _told(conflict.second)

    @admin.display(description=gettext_lazy("since"), ordering="since")
    def since_when(self, conflict: Conflict) -> str:
        return shown.ago(conflict.since)


def state_label(conflict: Conflict) -> str:
    return shown.label("default", _("solved")) if conflict.solved_at else shown.label("danger", _("open"))


def _told(booking: Booking) -> SafeString:
    return shown.noted(
        common.booking_link(booking), common.several(common.guest(booking), booking.get_source_display())
    )


def page_of(conflict: Conflict) -> dict[str, Any]:
    return {
        "conflict": conflict,
        "what_to_do": "" if conflict.solved_at else what_to_do(conflict),
        "cards": [
            Card(_("State"), state_label(conflict), shown.moment(conflict.solved_at) if conflict.solved_at else ""),
            Card(
                _("Disputed nights"),
                common.nights((conflict.end - conflict.start).days),
                common.stay(conflict.start, conflict.end),
            ),
            Card(_("Property"), conflict.property.name, "", common.property_href(conflict.property_id)),
            Card(_("Since"), shown.ago(conflict.since), shown.moment(conflict.since)),
        ],
        "bookings": [
            {
                "href": common.booking_href(booking.pk),
                "stay": common.stay(booking.check_in, booking.check_out),
                "nights": common.nights(booking.nights),
                "label": common.booking_label(booking.status),
                "guest": common.guest(booking),
                "source": booking.get_source_display(),
                "price": common.roubles(booking.total_price),
            }
            for booking in (conflict.first, conflict.second)
        ],
    }


def what_to_do(conflict: Conflict) -> str:
    by_hand = [bookings.is_manual(booking) for booking in (conflict.first, conflict.second)]
    if all(by_hand):
        return _("Open one of the two and cancel it or move its dates.")
    if any(by_hand):
        return _(
            "Talk to the guests. Then cancel or move the booking made by hand here, or cancel the other one at Avito."
            " The nights stay closed meanwhile."
        )
    return _("Both come from Avito. Talk to the guests and cancel one of them at Avito. The nights stay closed.")
