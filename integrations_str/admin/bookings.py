"""Bookings: who comes when; those made by hand are changed here, of Avito's only the guest."""

from datetime import date
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from api.admin import WithOverview, asks_first
from avito_accounts.admin import shown
from avito_accounts.fields import look
from chats import phones
from integrations_str import bookings
from integrations_str.admin import common
from integrations_str.admin.common import Card, OwnModelAdmin, Problem, PropertyFilter
from integrations_str.api.bookings import TAKEN
from integrations_str.bookings import UNSEEN_POLLS
from integrations_str.models import NIGHTS_MAX, Booking, Conflict, Night, Property
from integrations_str.pull import STATUSES

TODAY = common.today_at(F("property__timezone"))
IS_OVER = Q(check_out__lte=TODAY)
IS_LIVING = ~Q(status=Booking.Status.CANCELLED)
SOONEST_FIRST = (
    Case(When(IS_OVER, then=Value(1)), default=Value(0)).asc(),
    Case(When(~IS_OVER, then=F("check_in"))).asc(),
    "-check_in",
    "-id",
)
FACTS = ("check_in", "check_out", "guests", "total_price")
REVISIONS_SHOWN = 20


def _text(title: Any, widget: type[forms.Widget], **details: Any) -> forms.CharField:
    return forms.CharField(label=capfirst(title), required=False, max_length=255, widget=widget(), **details)


class BookingForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """`dates_taken`: the service has just refused these dates."""

    dates_taken = False

    guest_name = _text(gettext_lazy("guest"), UnfoldAdminTextInputWidget)
    guest_phone = _text(gettext_lazy("phone"), UnfoldAdminTextInputWidget)
    guest_email = forms.EmailField(
        label=gettext_lazy("E-mail"), required=False, max_length=255, widget=UnfoldAdminEmailInputWidget()
    )
    guests = forms.IntegerField(
        label=capfirst(gettext_lazy("guests")),
        required=False,
        min_value=1,
        max_value=100,
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    total_price = forms.IntegerField(
        label=gettext_lazy("Price of the stay, roubles"),
        required=False,
        min_value=0,
        max_value=10**12,
        widget=UnfoldAdminIntegerFieldWidget(),
    )

    class Meta:
        model = Booking
        fields = ("property", "check_in", "check_out", "guest_name", "guest_phone", "guest_email", *FACTS[2:])
        help_texts = {
            "check_in": gettext_lazy("The first night is the one that begins on this day."),
            "check_out": gettext_lazy("The guest leaves this morning: the night after it is free for the next one."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        booking = kwargs.get("instance")
        lost = [name for name in bookings.CONTACTS if booking is not None and look(booking, name) is None]
        for name in lost:  # a lost key hides the guest, not the booking; what is not typed stays as it is stored
            setattr(booking, name, "")
        super().__init__(*args, **kwargs)
        for name in lost:
            self.fields[name].help_text = _("Something is stored that no key in FIELD_ENCRYPTION_KEYS opens.")

    def clean_guest_phone(self) -> str:
        typed: str = self.cleaned_data["guest_phone"]
        is_same = typed == self.initial.get("guest_phone")  # Avito's may be of any shape
        if typed and not is_same and not phones.e164(typed):
            raise forms.ValidationError(_("Enter a phone number such as +79161234567."))
        return typed if is_same else phones.e164(typed)

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        check_in, check_out = said.get("check_in"), said.get("check_out")
        if check_in is None or check_out is None:
            return said
        if not check_in < check_out:
            self.add_error("check_out", _("The guest leaves after the day of arrival."))
        elif (check_out - check_in).days > NIGHTS_MAX:
            self.add_error("check_out", _("At most two years of nights."))
        elif not 2000 <= check_in.year <= check_out.year < 2200:
            self.add_error("check_in", _("Enter a year from 2000 to 2199."))
        elif self.dates_taken:
            self.add_error("check_in", self._taken(check_in, check_out))
        return said

    def _taken(self, check_in: date, check_out: date) -> SafeString:
        """Who holds the nights."""
        property = self.cleaned_data.get("property") or self.instance.property
        held = Night.objects.filter(property=property, date__gte=check_in, date__lt=check_out)
        held = held.exclude(booking=self.instance.pk)
        holders = Booking.objects.filter(pk__in=held.values("booking")).order_by("check_in")[:3]
        return format_html("{} {}", TAKEN, common.several(*map(common.booking_link, holders)))


class WhenFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("when"), "when"
    answers = {
        "ahead": (gettext_lazy("still to come"), IS_LIVING & Q(check_in__gt=TODAY)),
        "today": (gettext_lazy("arrive or leave today"), IS_LIVING & (Q(check_in=TODAY) | Q(check_out=TODAY))),
        "now": (gettext_lazy("staying now"), IS_LIVING & Q(check_in__lte=TODAY, check_out__gt=TODAY)),
        "over": (gettext_lazy("over"), IS_OVER),
    }


class AttentionFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("what to look at"), "look"
    answers = {
        "conflict": (gettext_lazy("overlap with another one"), Q(conflict=True)),
        "unseen": (gettext_lazy("no longer shown by Avito"), IS_LIVING & Q(unseen_polls__gte=bookings.UNSEEN_POLLS)),
        "strange": (
            gettext_lazy("in a state unknown here"),
            Q(source=Booking.Source.AVITO, status=Booking.Status.PENDING) & ~Q(raw_status__in=STATUSES),
        ),
    }


class SourceFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("source"), "source"
    answers = {
        "avito": (gettext_lazy("from Avito"), Q(source=Booking.Source.AVITO)),
        "manual": (gettext_lazy("by hand"), Q(source=Booking.Source.MANUAL)),
    }


class StatusFilter(shown.QuestionFilter):
    title, parameter_name = gettext_lazy("state"), "state"
    answers = {status.value: (status.label, Q(status=status)) for status in Booking.Status}


@admin.register(Booking)
class BookingAdmin(WithOverview, OwnModelAdmin):
    form = BookingForm
    list_display = ("dates", "place", "who", "state", "origin", "people", "price")
    list_filter = (WhenFilter, AttentionFilter, StatusFilter, SourceFilter, PropertyFilter)
    search_fields = ("property__name", "avito_booking_id")
    search_help_text = gettext_lazy("property or number at Avito")
    list_select_related = ("property__owner",)
    change_form_outer_before_template = "admin/integrations_str/booking/overview.html"
    change_form_outer_after_template = "admin/integrations_str/booking/revisions.html"
    ordering = SOONEST_FIRST
    autocomplete_fields = ("property",)
    readonly_fields = ("place", *("avito_number", "prepayment", "avitos_commission", "avitos_payout"))
    actions_detail = ("cancel_stay",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return common.may_enter(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return common.may_enter(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Booking]:
        rows: Any = super().get_queryset(request)
        return rows.saying_if_in_conflict()  # type: ignore[no-any-return]

    def get_fieldsets(self, request: HttpRequest, obj: Booking | None = None) -> Any:
        place = "place" if obj else "property"
        price = "price" if _is_fixed(obj) else "total_price"
        sections: list[Any] = [
            (_("Stay"), {"fields": (place, ("check_in", "check_out"), ("guests", price))}),
            (_("Guest"), {"fields": ("guest_name", ("guest_phone", "guest_email"))}),
        ]
        if obj and not bookings.is_manual(obj):
            money = ("prepayment", "avitos_commission", "avitos_payout")
            sections.insert(1, (_("Avito"), {"fields": ("avito_number", money)}))
        return sections

    def get_readonly_fields(self, request: HttpRequest, obj: Booking | None = None) -> tuple[str, ...]:
        """Of a booking of Avito's, and of one that is cancelled, only the guest is written here."""
        return (*self.readonly_fields, *FACTS, "price") if _is_fixed(obj) else self.readonly_fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.dates_taken = getattr(request, "dates_taken", False)
        return form

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        any_property = SimpleLazyObject(lambda: self.own(request, Property.objects.all()).exists())
        return super().changelist_view(request, {**(extra_context or {}), "any_property": any_property})

    def overview_of(self, request: HttpRequest, obj: Booking) -> dict[str, Any]:
        return overview(obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except bookings.DatesTaken:
            request.dates_taken = True  # type: ignore[attr-defined]  # the form comes again, and says so
            return super().changeform_view(request, object_id, form_url, extra_context)
        except bookings.NoNights:  # somebody has moved the other end meanwhile
            messages.error(request, _("The dates have changed meanwhile. Look at them again."))
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Booking, form: Any, change: bool) -> None:
        said = {name: form.cleaned_data[name] for name in form.changed_data}
        if change:
            bookings.change(Booking.objects.get(pk=obj.pk), **said)
        else:
            obj.pk = bookings.book(said.pop("property"), **said).pk

    # The list

    @admin.display(description=gettext_lazy("stay"), ordering="check_in")
    def dates(self, booking: Any) -> SafeString:
        clash = shown.label("danger", _("overlaps")) if booking.conflict else ""
        note = common.several(common.nights(booking.nights), clash)
        return shown.noted(common.stay(booking.check_in, booking.check_out), note)

    @admin.display(description=gettext_lazy("property"), ordering="property__name")
    def place(self, booking: Booking) -> SafeString:
        return common.property_link(booking.property)

    @admin.display(description=gettext_lazy("guest"))
    def who(self, booking: Booking) -> str:
        return common.guest(booking)

    @admin.display(description=gettext_lazy("state"), ordering="status")
    def state(self, booking: Booking) -> SafeString:
        return shown.noted(common.booking_label(booking.status), note_of(booking), room=9)

    @admin.display(description=gettext_lazy("source"), ordering="source")
    def origin(self, booking: Booking) -> SafeString:
        number = f"№ {booking.avito_booking_id}" if booking.avito_booking_id else ""
        return shown.noted(booking.get_source_display(), number)

    @admin.display(description=gettext_lazy("guests"), ordering="guests")
    def people(self, booking: Booking) -> str:
        return shown.number(booking.guests)

    @admin.display(description=gettext_lazy("price of the stay"), ordering="total_price")
    def price(self, booking: Booking) -> str:
        return common.roubles(booking.total_price)

    # The page

    @admin.display(description=gettext_lazy("number at Avito"))
    def avito_number(self, booking: Booking) -> str:
        return str(booking.avito_booking_id)

    @admin.display(description=gettext_lazy("prepayment"))
    def prepayment(self, booking: Booking) -> str:
        return common.roubles(booking.deposit)

    @admin.display(description=gettext_lazy("Avito's commission"))
    def avitos_commission(self, booking: Booking) -> str:
        return common.roubles(booking.commission)

    @admin.display(description=gettext_lazy("payout"))
    def avitos_payout(self, booking: Booking) -> str:
        return common.roubles(booking.owner_amount)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        booking = self.get_object(request, str(object_id))
        is_ours = booking is not None and booking.status != Booking.Status.CANCELLED and bookings.may_cancel(booking)
        buttons: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        return buttons if is_ours else []

    @action(
        description=gettext_lazy("Cancel the booking"),
        url_path="cancel",
        permissions=["change"],
        icon="event_busy",
    )
    @asks_first(text=lambda booking: what_cancelling_does(booking), is_final=True)
    def cancel_stay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        booking = self.found(request, object_id)
        try:
            bookings.cancel(booking)
            messages.success(request, _("The booking is cancelled, its nights are free again."))
        except bookings.NotYours:
            messages.error(request, _("A booking of Avito's is cancelled at Avito."))
        return HttpResponseRedirect(common.booking_href(booking.pk))


def what_cancelling_does(booking: Booking) -> str:
    about = _("%(property)s, %(first)s – %(last)s, guest: %(guest)s.") % {
        "property": booking.property.name,
        "first": common.long_day(booking.check_in),
        "last": common.long_day(booking.check_out),
        "guest": common.guest(booking),
    }
    if booking.property.integrations.connected().filter(is_active=True).exists():
        what = _("The nights go on sale again, at Avito too. This cannot be undone.")
    else:
        what = _("The nights go on sale again. This cannot be undone.")
    return f"{about} {what}"


def note_of(booking: Booking) -> str:
    """What its state does not say."""
    if booking.status == Booking.Status.CANCELLED:
        return ""
    if booking.unseen_polls >= bookings.UNSEEN_POLLS:
        return _("no longer shown by Avito")
    if is_strange(booking):
        return _("Avito says “%(status)s”") % {"status": booking.raw_status}
    return "" if booking.holds else _("does not hold its nights")


def is_strange(booking: Booking) -> bool:
    """In a state of Avito's that is not known here."""
    is_pending = booking.status == Booking.Status.PENDING
    return not bookings.is_manual(booking) and is_pending and booking.raw_status not in STATUSES


def _is_fixed(booking: Booking | None) -> bool:
    """Are the dates and the price Avito's, or over?"""
    return booking is not None and (not bookings.is_manual(booking) or booking.status == Booking.Status.CANCELLED)


def overview(booking: Any) -> dict[str, Any]:
    """What the page of a booking shows around the form."""
    found: list[Problem] = []
    clashes = Conflict.objects.filter(Q(first=booking.pk) | Q(second=booking.pk), solved_at=None)
    for conflict in clashes:
        text = _("Another booking claims the nights %(nights)s.")
        href = common.list_href("conflict", "").replace("?", f"{conflict.pk}/change/")
        told = {"nights": common.stay(conflict.start, conflict.end)}
        found.append(Problem(text % told, href, _("What to do")))
    if booking.status != Booking.Status.CANCELLED and booking.unseen_polls >= UNSEEN_POLLS:
        text = _("Avito no longer shows this booking. Its nights stay closed. Ask the guest; if it is off, cancel it.")
        found.append(Problem(text))
    elif is_strange(booking):
        text = _("Avito says “%(status)s”, which is not known here. Its nights stay closed; look at Avito.")
        found.append(Problem(text % {"status": booking.raw_status}))
    return {
        "problems": found,
        "cards": [
            Card(_("State"), common.booking_label(booking.status), note_of(booking)),
            Card(_("Stay"), common.nights(booking.nights), common.stay(booking.check_in, booking.check_out)),
            Card(
                _("Property"),
                booking.property.name,
                _("last night: %(day)s") % {"day": common.day(booking.last_night)},
                common.property_href(booking.property_id),
            ),
            Card(_("Source"), booking.get_source_display(), _changed_where(booking)),
        ],
        "erased_at": booking.contacts_erased_at,
        "revisions": [_in_words(one) for one in booking.revisions.order_by("-id")[:REVISIONS_SHOWN]],
    }


def _changed_where(booking: Booking) -> str:
    if bookings.is_manual(booking):
        return _("dates, price and guest are changed here")
    return _("dates and price are changed at Avito, here only the guest")


def _in_words(revision: Any) -> dict[str, Any]:
    before, after = revision.before, revision.after
    if before is None:
        told = [_("written down: %(stay)s") % {"stay": _stay(after)}]
    else:
        told = []
        if _stay(before) != _stay(after):
            told.append(f"{_stay(before)} → {_stay(after)}")
        if before["status"] != after["status"]:
            told.append(f"{Booking.Status(before['status']).label} → {Booking.Status(after['status']).label}")
        if before["guests"] != after["guests"]:
            told.append(_("guests: %(change)s") % {"change": _changed(before["guests"], after["guests"], shown.number)})
        if before["total_price"] != after["total_price"]:
            change = _changed(before["total_price"], after["total_price"], common.roubles)
            told.append(_("price: %(change)s") % {"change": change})
    return {"at": revision.at, "told": "; ".join(told) or _("a detail of Avito's")}


def _stay(facts: dict[str, Any]) -> str:
    return common.stay(date.fromisoformat(facts["check_in"]), date.fromisoformat(facts["check_out"]))


def _changed(before: Any, after: Any, told: Any) -> str:
    return f"{told(before)} → {told(after)}"
