"""A property's nights: its own rates, and the calendar that they and the bookings make for Avito."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import Serializer
from avito.rent import MIN_STAY_MAX
from integrations_str import calendar, services
from integrations_str.api.common import OfPropertiesViewSet
from integrations_str.models import PRICE_MAX, Integration, Property
from integrations_str.state import acked_by, books_of, state_of

DAYS_MAX = 731
"""Of one question for a calendar."""
DEFAULT_DAYS = 30
FROM_TO = [OpenApiParameter(name, OpenApiTypes.DATE, description="included") for name in ("from", "to")]


class DateRangeQuery(Serializer):
    """`from` and `to`, both included; without them the thirty days from today on."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.DateField(required=False, source="start"),
            "to": serializers.DateField(required=False, source="end"),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        start = attrs.get("start") or self.context["today"]
        try:
            end = attrs.get("end") or start + timedelta(days=DEFAULT_DAYS - 1)
        except OverflowError:
            end = start
        if not start <= end:
            raise serializers.ValidationError({"to": _("Not before “from”.")})
        if (end - start).days >= DAYS_MAX or end.year >= date.max.year:
            raise serializers.ValidationError({"to": _("At most two years at a time.")})
        return {"start": start, "end": end}


class RateSerializer(Serializer):
    date = serializers.DateField()
    price = serializers.IntegerField()
    min_stay = serializers.IntegerField()
    closed = serializers.BooleanField()
    overridden = serializers.BooleanField()


class RateRangeSerializer(Serializer):
    """Nights from `from` to `to`, both included. What is left out stays, null clears."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.DateField(source="start"),
            "to": serializers.DateField(source="end"),
            "price": serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=PRICE_MAX),
            "minStay": serializers.IntegerField(
                required=False, allow_null=True, min_value=1, max_value=MIN_STAY_MAX, source="min_stay"
            ),
            "closed": serializers.BooleanField(required=False, allow_null=True),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        start, end = attrs["start"], attrs["end"]
        if start > end:
            raise serializers.ValidationError({"to": _("Not before “from”.")})
        today = self.context["today"]
        if end > today + services.YEARS_AHEAD or start < today - services.YEARS_AHEAD:
            raise serializers.ValidationError({"to": _("At most two years ahead.")})
        return attrs


class RatesSerializer(Serializer):
    ranges = serializers.ListField(child=RateRangeSerializer(), allow_empty=False, max_length=DAYS_MAX)


class CalendarDaySerializer(Serializer):
    date = serializers.DateField()
    price = serializers.IntegerField()
    channel_price = serializers.IntegerField()
    min_stay = serializers.IntegerField()
    open = serializers.BooleanField()
    reason = serializers.ChoiceField(choices=["booking", "closed", "past", "pending_booking"], allow_null=True)
    sync = serializers.ChoiceField(choices=["synced", "pending", "failed", "off"])


class RatesViewSet(OfPropertiesViewSet):
    """Prices, minimum stays and closures, night by night."""

    @extend_schema(methods=["get"], parameters=FROM_TO, responses=RateSerializer(many=True))
    @extend_schema(methods=["put"], request=RatesSerializer, responses=RateSerializer(many=True))
    @action(detail=True, methods=["get", "put"], pagination_class=None)
    def rates(self, request: Request, pk: str) -> Response:
        """The property's own prices, minimum stays and closures, night by night; PUT changes ranges of them."""
        property = self.get_object()
        if request.method == "GET":
            start, end = self._dates(request, property)
        else:
            body = RatesSerializer(data=request.data, context={"today": property.today()})
            body.is_valid(raise_exception=True)
            ranges = [
                services.RateRange(one.pop("start"), one.pop("end"), one)
                for one in map(dict, body.validated_data["ranges"])
            ]
            services.set_rates(property, ranges)
            start, end = min(one.start for one in ranges), max(one.end for one in ranges)
        return Response(RateSerializer(services.rates_of(property, start, end), many=True).data)

    @extend_schema(parameters=FROM_TO, responses=CalendarDaySerializer(many=True))
    @action(detail=True, pagination_class=None)
    def calendar(self, request: Request, pk: str) -> Response:
        """Every night with its price here and at Avito, why it is closed, and whether Avito knows."""
        property = self.get_object()
        start, end = self._dates(request, property)
        after = end + calendar.DAY
        integration = Integration.objects.connected().in_full().filter(property=property).first()
        state = state_of(integration) if integration else None
        markup = integration.markup_percent if integration else Decimal(0)
        book = books_of([property], start, after)[property.pk]
        days = calendar.wanted_days(book, markup, start, after, today=property.today())
        acked = acked_by([integration], start, after)[integration.pk] if integration else {}
        known = {day.date for day in state.days} if state and integration and integration.is_active else set()
        rows = [
            {
                "date": day.date,
                "price": day.price,
                "channel_price": day.channel_price,
                "min_stay": day.min_stay,
                "open": day.is_open,
                "reason": day.reason,
                "sync": calendar.sync_state(day, acked.get(day.date, calendar.UNKNOWN) if day.date in known else None),
            }
            for day in days
        ]
        return Response(CalendarDaySerializer(rows, many=True).data)

    def _dates(self, request: Request, property: Property) -> tuple[date, date]:
        query = DateRangeQuery(data=request.query_params, context={"today": property.today()})
        query.is_valid(raise_exception=True)
        return query.validated_data["start"], query.validated_data["end"]
