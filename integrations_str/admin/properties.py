"""Properties: what a host says of them, how their connections fare, and who comes next."""

import zoneinfo
from datetime import datetime
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import (
    BooleanField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
)
from django.db.models.functions import JSONObject
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminSelectWidget

from api.admin import WithOverview
from api.roles import HOSTS
from avito_accounts.admin import shown
from integrations_str import services
from integrations_str.admin import common
from integrations_str.admin.common import Card, OwnModelAdmin, Problem
from integrations_str.api.properties import MIN_STAY_ABOVE_BASE
from integrations_str.models import Booking, Conflict, Integration, Property

ZONES = (
    *("Europe/Kaliningrad", "Europe/Moscow", "Europe/Samara", "Asia/Yekaterinburg", "Asia/Omsk", "Asia/Krasnoyarsk"),
    *("Asia/Irkutsk", "Asia/Yakutsk", "Asia/Vladivostok", "Asia/Magadan", "Asia/Kamchatka"),
)
"""The zones of Russia, from the west to the east; others can be had by the API."""
IS_LIVING = Q(status__in=(Booking.Status.PENDING, Booking.Status.CONFIRMED))


def zone_name(zone: str, at: datetime) -> str:
    hours = at.astimezone(zoneinfo.ZoneInfo(zone)).strftime("%z")
    return f"{zone} (UTC{hours[:3]}:{hours[3:]})"


class PropertyForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    class Meta:
        model = Property
        fields = ("owner", "name", "address", "timezone", "base_price", "min_stay", "max_guests")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zones, now = dict.fromkeys([*ZONES, self.instance.timezone]), timezone.now()
        self.fields["timezone"].widget = UnfoldAdminSelectWidget(
            choices=[(zone, zone_name(zone, now)) for zone in zones if zone in zoneinfo.available_timezones()]
        )
        if "owner" in self.fields:
            known = Q(groups__name=HOSTS) | Q(properties__isnull=False) | Q(is_superuser=True)
            owners = User.objects.filter(known, is_active=True).distinct().order_by("username")
            self.fields["owner"].queryset = owners  # type: ignore[attr-defined]


class ConnectionFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("connection to Avito"), "connection"
    answers = {
        "yes": (gettext_lazy("connected"), Q(is_connected=True)),
        "no": (gettext_lazy("not connected"), Q(is_connected=False)),
    }


class ConflictFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("bookings"), "bookings"
    answers = {
        "conflict": (gettext_lazy("overlap"), Q(in_conflict=True)),
        "none": (gettext_lazy("nobody comes"), Q(next_booking__isnull=True)),
    }


@admin.register(Property)
class PropertyAdmin(WithOverview, OwnModelAdmin):
    form = PropertyForm
    list_filter = (ConnectionFilter, ConflictFilter)
    search_fields = ("name", "address")
    search_help_text = gettext_lazy("name or address")
    change_form_outer_before_template = "admin/integrations_str/property/overview.html"
    ordering = ("name", "id")
    readonly_fields = ("created_at", "updated_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return common.may_enter(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return common.may_enter(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return common.may_enter(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Property]:
        living = Booking.objects.filter(
            IS_LIVING, property=OuterRef("pk"), check_out__gt=common.today_at(cast(F, OuterRef("timezone")))
        )
        facts = JSONObject(pk="pk", check_in="check_in", check_out="check_out", status="status")
        connected = Integration.objects.connected().select_related("task", "account__authorization")
        rows: QuerySet[Property] = super().get_queryset(request)
        return (
            rows.select_related("owner")
            .annotate(
                next_booking=Subquery(living.order_by("check_in", "id").values(facts=facts)[:1]),
                is_connected=Exists(Integration.objects.connected().filter(property=OuterRef("pk"))),
                is_own=ExpressionWrapper(Q(owner=request.user.pk), BooleanField()),
                in_conflict=Exists(Conflict.objects.filter(property=OuterRef("pk"), solved_at=None)),
            )
            .prefetch_related(Prefetch("integrations", connected, to_attr="connections"))
        )

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        owner = ("owned_by",) if common.sees_all(request) else ()
        return ("place", *owner, "connection", "next_stay", "price", "months")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return (*self.search_fields, "owner__username") if common.sees_all(request) else self.search_fields

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}  # deleting is decided one by one

    def get_fieldsets(self, request: HttpRequest, obj: Property | None = None) -> Any:
        """The owner is chosen once, by those who may: the connection's right to an account is the owner's."""
        owner = ("owner",) if common.sees_all(request) else ()
        sections = [
            (None, {"fields": (*owner, "name", "address", "timezone")}),
            (_("Price and stay"), {"fields": ("base_price", ("min_stay", "max_guests"))}),
        ]
        dates = [(_("Dates"), {"fields": (("created_at", "updated_at"),), "classes": ("collapse",)})]
        return [*sections, *(dates if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Property | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "owner") if obj else self.readonly_fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, **super().get_changeform_initial_data(request)}

    def overview_of(self, request: HttpRequest, obj: Property) -> dict[str, Any]:
        return overview(obj)

    # The list

    @admin.display(description=gettext_lazy("property"), ordering="name")
    def place(self, property: Property) -> SafeString:
        return shown.noted(property.name, property.address, room=10)

    @admin.display(description=gettext_lazy("owner"), ordering="owner__username")
    def owned_by(self, property: Property) -> str:
        return property.owner.get_username()

    @admin.display(description=gettext_lazy("Avito"))
    def connection(self, property: Any) -> SafeString:
        state, why = common.state_of(connection_of(property))
        return shown.noted(common.state_label(state), why, room=12)

    @admin.display(description=gettext_lazy("next stay"))
    def next_stay(self, property: Any) -> SafeString:
        clash = shown.label("danger", _("bookings overlap")) if property.in_conflict else ""
        return shown.noted(next_stay(property), clash)

    @admin.display(description=gettext_lazy("price of a night"), ordering="base_price")
    def price(self, property: Property) -> SafeString:
        note = common.at_least(property.min_stay) if property.min_stay > 1 else ""
        return shown.noted(common.roubles(property.base_price), note)

    @admin.display(description=gettext_lazy("calendar"))
    def months(self, property: Any) -> SafeString | str:
        """The calendar's page shows nobody but the owner anything."""
        return shown.link(common.months_href(property.pk), _("by months")) if property.is_own else shown.NOTHING

    # Changing

    def save_model(self, request: HttpRequest, obj: Property, form: Any, change: bool) -> None:
        said = {name: form.cleaned_data[name] for name in form.fields}
        if change:
            typed = {name: said[name] for name in form.changed_data}
            services.change_property(Property.objects.get(pk=obj.pk), **typed)
        else:
            obj.pk = services.add_property(said.pop("owner", request.user), **said).pk
        if obj.is_min_stay_above_base:
            messages.warning(request, MIN_STAY_ABOVE_BASE)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes with a property in figures; its own pages may not be deleted alone."""
        rows, connected = list(objs), Integration.objects.connected().filter(property__in=objs)
        count = Booking.objects.filter(property__in=objs).count()
        figures = {Property._meta.verbose_name_plural: len(rows), Booking._meta.verbose_name_plural: count}
        ways = [_way_to_disconnect(one, request) for one in connected.select_related("property")]
        return [str(row) for row in rows], figures, set(), ways

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)  # type: ignore[no-any-return]
        except services.StillConnected:  # since the page was opened
            messages.error(request, _("Disconnect the property from Avito first."))
            return HttpResponseRedirect(common.property_href(int(object_id)))

    def delete_model(self, request: HttpRequest, obj: Property) -> None:
        services.delete_property(obj)


def _way_to_disconnect(connection: Integration, request: HttpRequest) -> SafeString:
    """The owner disconnects on the connect page, which nobody else may open."""
    if connection.property.owner_id == request.user.pk:
        return shown.link(f"{reverse('str_connect', args=[connection.property_id])}?edit=disconnect", connection)
    return shown.link(common.connection_href(connection.pk), connection)


def connection_of(property: Any) -> Integration | None:
    return property.connections[0] if property.connections else None


def next_stay(property: Any) -> SafeString | str:
    """Who is there now or comes next."""
    found = property.next_booking
    if found is None:
        return shown.NOTHING
    check_in, check_out = (datetime.fromisoformat(found[name]).date() for name in ("check_in", "check_out"))
    return shown.link(common.booking_href(found["pk"]), common.stay(check_in, check_out))


def overview(property: Any) -> dict[str, Any]:
    """What the page of a property shows above the form."""
    integration = connection_of(property)
    state, why = common.state_of(integration)
    href = common.connection_href(integration.pk) if integration else ""
    ahead = Booking.objects.filter(IS_LIVING, property=property, check_out__gt=property.today())
    counts = ahead.aggregate(all=Count("pk"), unpaid=Count("pk", filter=Q(status=Booking.Status.PENDING)))
    unpaid = _("not paid yet: %(count)s") % {"count": counts["unpaid"]} if counts["unpaid"] else ""
    next_booking = property.next_booking
    is_ill = state in ("error", "needs_reconnect", "item_unavailable")
    problems = [Problem(why, href, _("To the connection"))] if is_ill else []
    if property.in_conflict:
        conflicts = common.list_href("conflict", f"property={property.pk}")
        problems.append(Problem(_("Two bookings claim the same nights."), conflicts, _("What to do")))
    return {
        "name": property.name,
        "problems": problems,
        "cards": [
            Card(_("Avito"), common.state_label(state), "" if problems else why, href),
            Card(
                _("Next stay"),
                next_stay(property),
                common.booking_label(next_booking["status"]) if next_booking else _("Nobody comes."),
            ),
            Card(
                _("Stays ahead"),
                shown.number(counts["all"]),
                unpaid,
                common.list_href("booking", f"property={property.pk}"),
            ),
            Card(_("Today there"), common.day(property.today()), property.timezone),
        ],
        "advice": ""
        if integration
        else _("The property is not connected to Avito yet: its bookings are kept here alone, and nothing is sent."),
        "months_href": common.months_href(property.pk) if property.is_own else "",
        "add_href": common.list_href("booking", "").replace("?", f"add/?property={property.pk}"),
    }
