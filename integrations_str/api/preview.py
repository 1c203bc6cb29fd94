"""What the next push would send."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import Serializer
from integrations_str import calendar
from integrations_str.api.common import OfPropertiesViewSet
from integrations_str.models import MARKUP_MAX, MARKUP_MIN
from integrations_str.push import waits_for_consent
from integrations_str.state import State, state_of


def markup(**details: Any) -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=MARKUP_MIN, max_value=MARKUP_MAX, required=False, **details
    )


class MarkupQuery(Serializer):
    markup_percent = markup()


class PriceRangeSerializer(Serializer):
    """Nights from `from` to `to`, both included."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {
            "from": serializers.DateField(source="first"),
            "to": serializers.DateField(source="last"),
            "price": serializers.IntegerField(source="night_price"),
            "minStay": serializers.IntegerField(source="min_stay"),
        }


class FreeIntervalSerializer(Serializer):
    """Free nights from `from` on, before `to`."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(source="start"), "to": serializers.DateField(source="end")}


class SpanSerializer(Serializer):
    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(), "to": serializers.DateField()}


class BasePriceSerializer(Serializer):
    price = serializers.IntegerField()
    min_stay = serializers.IntegerField(allow_null=True)


class PricesSerializer(Serializer):
    first = serializers.IntegerField(allow_null=True)
    min = serializers.IntegerField(allow_null=True)
    max = serializers.IntegerField(allow_null=True)


class PreviewSerializer(Serializer):
    """What the next push would send. `intervals`: all free nights of the year, if any night opens or closes.

    `opensAtAvito`: nights that were closed at Avito when the property was connected, and that the first push would
    open; `consentNeeded`: it waits for the owner's consent, because of them or of open conflicts.
    """

    prices = PriceRangeSerializer(many=True)
    intervals = FreeIntervalSerializer(many=True)
    closes_all = serializers.BooleanField()
    base = BasePriceSerializer(allow_null=True)
    changed_days = serializers.IntegerField()
    channel_prices = PricesSerializer()
    consent_needed = serializers.BooleanField()
    opens_at_avito = SpanSerializer(many=True)


class PreviewViewSet(OfPropertiesViewSet):
    """What the next push would send."""

    @extend_schema(parameters=[MarkupQuery], responses=PreviewSerializer)
    @action(detail=True, url_path="avito/preview")
    def preview(self, request: Request, pk: str) -> Response:
        """What the next push would send; with `markupPercent` what it would send under another markup."""
        integration = self.integration_of(self.get_object())
        query = MarkupQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        integration.markup_percent = query.validated_data.get("markup_percent", integration.markup_percent)
        return Response(PreviewSerializer(preview_of(state_of(integration))).data)


def preview_of(state: State) -> dict[str, Any]:
    """What the next push would send."""
    closes_all = not any(day.is_open for day in state.days)
    prices = [day.channel_price for day in state.days]
    base_price, base_min_stay = state.base
    opening = calendar.date_ranges(state.consent_needed_for)
    intervals = calendar.free_intervals(state.days, closes_all=closes_all) if state.changes.opens else []
    return {
        "prices": calendar.price_ranges(state.changes.prices),
        "intervals": intervals,
        "closes_all": closes_all and bool(state.changes.opens),
        "base": {"price": base_price, "min_stay": base_min_stay} if state.base_differs else None,
        "changed_days": len(state.changes.days),
        "channel_prices": {
            "first": prices[0] if prices else None,
            "min": min(prices, default=None),
            "max": max(prices, default=None),
        },
        "consent_needed": waits_for_consent(state),
        "opens_at_avito": [{"from": start, "to": end} for start, end in opening],
    }
