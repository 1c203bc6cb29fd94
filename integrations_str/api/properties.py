"""Properties, each shown with its connection to Avito."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import ModelSerializer
from avito.rent import BASE_MIN_STAY_MAX, MIN_STAY_MAX
from avito_accounts.api import ErrorSerializer
from integrations_str import services
from integrations_str.api.common import OfPropertiesViewSet, Refused
from integrations_str.api.connection import IntegrationSerializer
from integrations_str.models import PRICE_MAX, Integration, Property
from integrations_str.state import unsettled_states

MIN_STAY_ABOVE_BASE = gettext_lazy(
    "Avito takes up to 30 nights for single dates, but only up to 7 for the listing as a whole:"
    " beyond the year that is sent, its own minimum counts."
)


class PropertySerializer(ModelSerializer):
    id = serializers.IntegerField(read_only=True)
    base_price = serializers.IntegerField(min_value=1, max_value=PRICE_MAX)
    min_stay = serializers.IntegerField(
        min_value=1,
        max_value=MIN_STAY_MAX,
        required=False,
        help_text=f"Avito keeps up to {MIN_STAY_MAX} for single dates, up to {BASE_MIN_STAY_MAX} for the listing.",
    )
    max_guests = serializers.IntegerField(min_value=1, max_value=100, required=False)
    avito = serializers.SerializerMethodField()
    warnings = serializers.SerializerMethodField()

    class Meta:
        model = Property
        fields = [
            *("id", "name", "address", "timezone", "currency", "base_price", "min_stay", "max_guests"),
            *("created_at", "updated_at", "avito", "warnings"),
        ]
        read_only_fields = ["created_at", "updated_at"]

    @extend_schema_field(IntegrationSerializer(allow_null=True))
    def get_avito(self, property: Property) -> dict[str, Any] | None:
        integrations: Mapping[int, Any] = self.context["integrations"]
        return integrations.get(property.pk)

    @extend_schema_field(ErrorSerializer(many=True))
    def get_warnings(self, property: Property) -> list[dict[str, str]]:
        if not property.is_min_stay_above_base:
            return []
        return [{"code": "min_stay_above_base", "detail": str(MIN_STAY_ABOVE_BASE)}]


class PropertyViewSet(
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    OfPropertiesViewSet,
):
    """The caller's properties, with their connection to Avito."""

    serializer_class = PropertySerializer

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("context", self.get_serializer_context())
        if args and self.action in ("list", "retrieve", "update", "partial_update"):
            properties = args[0] if kwargs.get("many") else [args[0]]
            kwargs["context"]["integrations"] = self._integrations(properties)
        else:
            kwargs["context"].setdefault("integrations", {})
        return super().get_serializer(*args, **kwargs)

    def _integrations(self, properties: Sequence[Property]) -> dict[int, Any]:
        rows = list(Integration.objects.connected().in_full().filter(property__in=[one.pk for one in properties]))
        context = {"states": unsettled_states(rows)}
        return {row.property_id: IntegrationSerializer(row, context=context).data for row in rows}

    def perform_create(self, serializer: Any) -> None:
        serializer.instance = services.add_property(self.user, **serializer.validated_data)

    def perform_destroy(self, instance: Property) -> None:
        try:
            services.delete_property(instance)
        except services.StillConnected:
            raise Refused(_("Disconnect the property from Avito first."), "property_connected") from None

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        property = self.get_object()
        serializer = self.get_serializer(property, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        property = services.change_property(property, **serializer.validated_data)
        return Response(self.get_serializer(property).data)

    partial_update = update
