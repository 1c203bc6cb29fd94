"""Bookings, made by hand and at Avito."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import ModelSerializer
from avito_accounts.fields import look
from avito_accounts.models import BIGINT_MAX
from chats import phones
from integrations_str import bookings
from integrations_str.api.common import OwnViewSet, Refused
from integrations_str.models import NIGHTS_MAX, Booking, Property

TAKEN = gettext_lazy("Another booking holds one of these nights.")


class PropertyIdField(serializers.PrimaryKeyRelatedField[Property]):
    """A property of the caller's own; another's is as unknown as one that does not exist."""

    def get_queryset(self) -> Any:
        return Property.objects.owned_by(self.context["request"].user)


class BookingSerializer(ModelSerializer):
    """A stay; dates are half-open. Of Avito's bookings only the guest can be changed here."""

    id = serializers.IntegerField(read_only=True)
    property_id = PropertyIdField(source="property", queryset=Property.objects.none())
    check_in = serializers.DateField()
    check_out = serializers.DateField()
    nights = serializers.IntegerField(read_only=True)
    guest_name = serializers.CharField(max_length=255, allow_blank=True, required=False)
    guest_phone = serializers.CharField(max_length=255, allow_blank=True, required=False)
    guest_email = serializers.EmailField(max_length=255, allow_blank=True, required=False)
    guests = serializers.IntegerField(min_value=1, max_value=100, required=False, allow_null=True)
    total_price = serializers.IntegerField(min_value=0, max_value=10**12, required=False, allow_null=True)
    conflict = serializers.BooleanField(read_only=True)

    class Meta:
        model = Booking
        fields = [
            *("id", "property_id", "source", "avito_booking_id", "check_in", "check_out", "nights"),
            *("guest_name", "guest_phone", "guest_email", "guests", "total_price", "status", "conflict"),
            *("created_at", "updated_at"),
        ]
        read_only_fields = ["source", "avito_booking_id", "status", "created_at", "updated_at"]

    def validate_guestPhone(self, value: str) -> str:
        if value and not phones.e164(value):
            raise serializers.ValidationError(_("Enter a phone number such as +79161234567."))
        return phones.e164(value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        booking = self.instance
        start: date = attrs.get("check_in") or booking.check_in  # type: ignore[union-attr]  # required when new
        end: date = attrs.get("check_out") or booking.check_out  # type: ignore[union-attr]
        if not start < end:
            raise serializers.ValidationError({"checkOut": _("After “checkIn”.")})
        if (end - start).days > NIGHTS_MAX:
            raise serializers.ValidationError({"checkOut": _("At most two years of nights.")})
        if not 2000 <= start.year <= end.year < 2200:
            raise serializers.ValidationError({"checkIn": _("Enter a year from 2000 to 2199.")})
        if booking is not None:
            attrs.pop("property", None)  # a booking stays where it was made
        return attrs

    def to_representation(self, instance: Booking) -> dict[str, Any]:
        for name in bookings.CONTACTS:  # a lost key hides the guest, not the booking
            instance.__dict__[name] = look(instance, name) or ""
        return super().to_representation(instance)


def show_bookings(ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    rows = Booking.objects.filter(pk__in=ids).saying_if_in_conflict()
    return {row.pk: BookingSerializer(row).data for row in rows}


class BookingFilter(django_filters.FilterSet):
    """Stays that touch the nights from `from` to `to`, both included."""

    propertyId = django_filters.NumberFilter(field_name="property", min_value=1, max_value=BIGINT_MAX)
    status = django_filters.ChoiceFilter(choices=Booking.Status.choices)
    source = django_filters.ChoiceFilter(choices=Booking.Source.choices)
    locals()["from"] = django_filters.DateFilter(field_name="check_out", lookup_expr="gt")
    to = django_filters.DateFilter(field_name="check_in", lookup_expr="lte")

    class Meta:
        model = Booking
        fields: list[str] = []


class BookingViewSet(mixins.ListModelMixin, mixins.CreateModelMixin, mixins.RetrieveModelMixin, OwnViewSet):
    """Bookings of the caller's properties, made by hand and at Avito."""

    queryset = Booking.objects.none()
    serializer_class = BookingSerializer
    filterset_class = BookingFilter

    def get_queryset(self) -> QuerySet[Booking]:
        return Booking.objects.owned_by(self.request.user).saying_if_in_conflict().order_by("-check_in", "-id")

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        said = dict(serializer.validated_data)
        try:
            booking = bookings.book(said.pop("property"), **said)
        except bookings.DatesTaken:
            raise Refused(TAKEN, "dates_taken") from None
        return Response(self._shown(booking), status=201)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        booking = self.get_object()
        serializer = self.get_serializer(booking, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        said = {name: value for name, value in serializer.validated_data.items() if value != getattr(booking, name)}
        try:
            return Response(self._shown(bookings.change(booking, **said)))
        except bookings.DatesTaken:
            raise Refused(TAKEN, "dates_taken") from None
        except bookings.NoNights:
            raise serializers.ValidationError({"checkOut": _("After “checkIn”.")}) from None
        except bookings.NotYours:
            raise Refused(_("A booking of Avito's is changed at Avito."), "avito_booking") from None

    partial_update = update

    @extend_schema(request=None, responses=BookingSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Frees the nights of a booking made by hand."""
        try:
            return Response(self._shown(bookings.cancel(self.get_object())))
        except bookings.NotYours:
            raise Refused(_("A booking of Avito's is cancelled at Avito."), "avito_booking") from None

    def _shown(self, booking: Booking) -> Any:
        return self.get_serializer(self.get_queryset().get(pk=booking.pk)).data
