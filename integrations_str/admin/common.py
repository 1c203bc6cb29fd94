"""What the pages of short-term rent have in common: whose rows are seen, and how stays and connections are told."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.contrib.auth.models import User
from django.db.models import DateField, F, Func, QuerySet, prefetch_related_objects
from django.db.models.functions import Cast, Now
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from api.admin import RoleModelAdmin
from api.roles import is_host, role_of
from avito_accounts.admin import shown
from avito_accounts.fields import look
from integrations_str import health
from integrations_str.models import Booking, Integration, Property
from integrations_str.models import stay as stay

STATES: dict[str, tuple[str, Any]] = {
    "ok": ("success", gettext_lazy("in agreement")),
    "syncing": ("info", gettext_lazy("being synchronised")),
    "error": ("danger", gettext_lazy("trouble")),
    "needs_reconnect": ("warning", gettext_lazy("needs reconnecting")),
    "item_unavailable": ("danger", gettext_lazy("item out of reach")),
    "off": ("default", gettext_lazy("paused")),
    "disconnected": ("default", gettext_lazy("disconnected")),
    "none": ("default", gettext_lazy("not connected")),
}
"""How a connection fares: `health.Status`, and two more for what is no connection."""
BOOKING_COLOURS = {"pending": "warning", "confirmed": "success", "cancelled": "default"}


@dataclass(frozen=True)
class Card:
    title: Any
    value: Any
    note: Any = ""
    href: str = ""


@dataclass(frozen=True)
class Problem:
    text: Any
    href: str = ""
    remedy: Any = ""


def sees_all(request: HttpRequest) -> bool:
    """Staff in charge: everybody's properties, and the queue."""
    if isinstance(request.user, User):  # one query a request, however often it is asked
        prefetch_related_objects([request.user], "groups")
    return role_of(request.user) == "admin"


def may_enter(request: HttpRequest) -> bool:
    return sees_all(request) or is_host(request.user)


class OwnModelAdmin(RoleModelAdmin):
    """A page of rows that belong to hosts. Another's row answers as a missing one, since no question ever finds it.

    Adds, changes and deletes nothing, but where a page says so.
    """

    list_before_template = "avito_accounts/cells.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_enter(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.own(request, super().get_queryset(request))
        return rows

    def own(self, request: HttpRequest, rows: Any) -> Any:
        """Those of the rows that the reader may see."""
        return rows if sees_all(request) else rows.owned_by(request.user)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "property":
            kwargs["label"] = capfirst(Property._meta.verbose_name)
            kwargs["queryset"] = self.own(request, Property.objects.order_by("name"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def found(self, request: HttpRequest, object_id: Any) -> Any:
        """The row of a button, or 404."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        return row


class PropertyFilter(shown.QuestionFilter):
    """One of the reader's own properties."""

    title, parameter_name = gettext_lazy("property"), "property"
    answers = {}
    offered = 100

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        rows = model_admin.own(request, Property.objects.order_by("name"))
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")[: self.offered]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or ""
        if not value:
            return queryset
        return queryset.filter(property=int(value)) if value.isdecimal() and len(value) < 19 else queryset.none()


def today_at(timezone: F) -> Cast:
    """The day where a property stands, for the database; `timezone`: the column that says where."""
    return Cast(Func(timezone, Now(), function="timezone"), DateField())


# In words


def day(on: date) -> str:
    return date_format(on, "SHORT_DATE_FORMAT")


def long_day(on: date) -> str:
    return date_format(on, "DATE_FORMAT")


def guest(booking: Booking) -> str:
    """The name, a dash where none is stored any more or none can be read."""
    return look(booking, "guest_name") or shown.NOTHING


def nights(count: int) -> str:
    return ngettext("%(count)d night", "%(count)d nights", count) % {"count": count}


def at_least(count: int) -> str:
    return ngettext("from %(count)d night", "from %(count)d nights", count) % {"count": count}


def roubles(amount: int | None) -> str:
    return shown.NOTHING if amount is None else f"{shown.number(amount)}\N{NBSP}₽"


def state_label(state: str) -> str:
    return shown.label(*STATES[state])


def state_of(integration: Integration | None) -> tuple[str, str]:
    """A word of STATES, and in the reader's language why, with what to do."""
    if integration is None:
        return "none", ""
    if integration.disconnected_at:
        return "disconnected", ""
    found = health.health_of(integration)
    if found.status == "off":
        return "off", _("Nothing is sent and nothing is read until it goes on; changes are kept.")
    return found.status, found.detail if found.code else ""


def booking_label(status: str) -> str:
    return shown.label(BOOKING_COLOURS[status], Booking.Status(status).label)


def booking_link(booking: Booking) -> SafeString:
    return shown.link(booking_href(booking.pk), stay(booking.check_in, booking.check_out))


def months_href(property_id: int) -> str:
    return f"{reverse('str_calendar')}?property={property_id}&view=months"


def booking_href(pk: int) -> str:
    return reverse("admin:integrations_str_booking_change", args=[pk])


def property_href(pk: int) -> str:
    return reverse("admin:integrations_str_property_change", args=[pk])


def property_link(property: Property) -> SafeString:
    return shown.link(property_href(property.pk), property.name)


def connection_href(pk: int) -> str:
    return reverse("admin:integrations_str_integration_change", args=[pk])


def list_href(model: str, query: str) -> str:
    return f"{reverse(f'admin:integrations_str_{model}_changelist')}?{query}"


def whose(property: Property, request: HttpRequest) -> str:
    """The owner's name, for those who see more than one owner."""
    return property.owner.get_username() if sees_all(request) else ""


def several(*parts: Any) -> SafeString:
    """Parts of a note in one line; empty ones are left out."""
    return format_html_join(" · ", "{}", ((part,) for part in parts if part))
