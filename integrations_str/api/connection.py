"""The connection of a property to an item at Avito."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import ModelSerializer, Serializer
from avito_accounts.api import ErrorSerializer
from avito_accounts.models import BIGINT_MAX, Account
from integrations_str import connecting, health, log, queue
from integrations_str.api.common import OfPropertiesViewSet, Refused
from integrations_str.api.preview import markup
from integrations_str.models import Exchange, Integration, Property
from integrations_str.state import State, unsettled_states

ITEM_TAKEN = gettext_lazy("This ID is already in use.")
LINK = inline_serializer("StrLink", {"url": serializers.URLField()})
AVAILABLE = inline_serializer("StrAvailable", {"available": serializers.BooleanField()})


class IntegrationSerializer(ModelSerializer):
    """A property's connection to an item at Avito. `pendingDays`: nights in which Avito is not as it should be."""

    id = serializers.IntegerField(read_only=True)
    property_id = serializers.IntegerField(read_only=True)
    account_id = serializers.IntegerField(read_only=True)
    item_id = serializers.CharField(read_only=True)
    markup_percent = serializers.FloatField(read_only=True)
    status = serializers.SerializerMethodField()
    last_error = serializers.SerializerMethodField()
    next_sync_at = serializers.SerializerMethodField()
    pending_days = serializers.SerializerMethodField()
    hold_pending = serializers.BooleanField(source="holds_pending", read_only=True)
    awaiting_consent = serializers.SerializerMethodField(
        help_text="the first push waits for `consent`, see the preview"
    )

    class Meta:
        model = Integration
        fields = [
            *("id", "property_id", "account_id", "item_id", "markup_percent", "is_active", "status"),
            *("last_push_at", "last_pull_at", "next_sync_at", "last_error", "pending_days"),
            *("hold_pending", "awaiting_consent", "connected_at"),
        ]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=health.STATUSES))
    def get_status(self, integration: Integration) -> str:
        return health.health_of(integration).status

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_last_error(self, integration: Integration) -> dict[str, str] | None:
        found = health.health_of(integration)
        return {"code": found.code, "detail": found.detail} if found.code else None

    @extend_schema_field(OpenApiTypes.DATETIME)
    def get_next_sync_at(self, integration: Integration) -> str | None:
        task = integration.task
        if not integration.is_active or not health.is_usable(integration):
            return None
        moments = [moment for moment in (None if task.dead_at else task.push_at, task.pull_at) if moment]
        return serializers.DateTimeField().to_representation(min(moments))

    def get_pending_days(self, integration: Integration) -> int:
        states: Mapping[int, State] = self.context.get("states", {})
        state = states.get(integration.pk)
        return len(state.changes.days) if state else integration.task.left_days

    def get_awaiting_consent(self, integration: Integration) -> bool:
        return integration.task.waits_for_consent


def shown(integration: Integration) -> dict[str, Any]:
    """A connection as it is now."""
    integration = Integration.objects.connected().in_full().get(pk=integration.pk)
    context = {"states": unsettled_states([integration])}
    return dict(IntegrationSerializer(integration, context=context).data)


def show_integrations(ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    rows = list(Integration.objects.connected().in_full().filter(pk__in=ids))
    context = {"states": unsettled_states(rows)}
    return {row.pk: IntegrationSerializer(row, context=context).data for row in rows}


class UsableAccountSerializer(Serializer):
    account_id = serializers.IntegerField()
    user_id = serializers.CharField()
    name = serializers.CharField()


class ItemSerializer(Serializer):
    account_id = serializers.IntegerField()
    item_id = serializers.RegexField(r"^\d{1,19}$")

    def validate_itemId(self, value: str) -> int:
        if not 1 <= int(value) <= BIGINT_MAX:
            raise serializers.ValidationError(_("Enter the number of an item at Avito."))
        return int(value)

    def validate_accountId(self, value: int) -> Account:
        account = connecting.usable_accounts(self.context["request"].user).filter(pk=value)
        if not 0 < value <= BIGINT_MAX or (found := account.select_related("authorization", "proxy").first()) is None:
            raise serializers.ValidationError(_("Choose one of the accounts that you may use."), code="unknown_account")
        return found


class ConnectSerializer(ItemSerializer):
    markup_percent = markup(default=Decimal(15))
    consent = serializers.BooleanField(default=False)


class ChangeSerializer(Serializer):
    """`consent`: the first push may open nights that are closed at Avito, and go out in spite of a conflict."""

    markup_percent = markup()
    is_active = serializers.BooleanField(required=False)
    hold_pending = serializers.BooleanField(required=False, source="holds_pending")
    consent = serializers.BooleanField(required=False, source="consents", write_only=True)


class DisconnectQuery(Serializer):
    close_sales = serializers.BooleanField(default=False)


class ExchangeSerializer(ModelSerializer):
    detail = serializers.SerializerMethodField()
    code = serializers.SerializerMethodField()

    class Meta:
        model = Exchange
        fields = ["at", "action", "ok", "code", "detail", "attempt", "latency_ms"]
        read_only_fields = fields

    def get_detail(self, exchange: Exchange) -> str:
        return log.words_of(exchange)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_code(self, exchange: Exchange) -> str | None:
        return exchange.code or None


class ConnectionViewSet(OfPropertiesViewSet):
    """From the consent at Avito to the log of what was sent."""

    @extend_schema(request=None, responses=LINK)
    @action(detail=True, methods=["post"], url_path="avito/authorize")
    def authorize(self, request: Request, pk: str) -> Response:
        """A link of ours that opens Avito's consent page once, for this property."""
        return Response({"url": connecting.authorize_link(self.get_object(), self.user)})

    @extend_schema(responses=UsableAccountSerializer(many=True))
    @action(detail=True, url_path="avito/accounts", pagination_class=None)
    def accounts(self, request: Request, pk: str) -> Response:
        """The accounts whose items the caller may connect."""
        self.get_object()
        rows = [
            {"account_id": one.pk, "user_id": str(one.avito_user_id), "name": one.name}
            for one in connecting.usable_accounts(self.user)
        ]
        return Response(UsableAccountSerializer(rows, many=True).data)

    @extend_schema(request=ItemSerializer, responses=AVAILABLE)
    @action(detail=True, methods=["post"], url_path="avito/check-item")
    def check_item(self, request: Request, pk: str) -> Response:
        """Can the property be connected to this item?"""
        property = self.get_object()
        body = ItemSerializer(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        try:
            connecting.check_item(property, body.validated_data["account_id"], body.validated_data["item_id"])
        except connecting.ItemTaken:
            raise Refused(ITEM_TAKEN, "item_already_connected") from None
        return Response({"available": True})

    @extend_schema(methods=["get"], responses=IntegrationSerializer)
    @extend_schema(methods=["post"], request=ConnectSerializer, responses={201: IntegrationSerializer})
    @extend_schema(methods=["patch"], request=ChangeSerializer, responses=IntegrationSerializer)
    @extend_schema(methods=["delete"], parameters=[DisconnectQuery], responses={204: None})
    @action(detail=True, methods=["get", "post", "patch", "delete"])
    def avito(self, request: Request, pk: str) -> Response:
        """The property's connection to an item at Avito.

        POST connects it: bookings are read first, then the first push is queued. DELETE takes it off, and closes the
        sales at Avito before if asked to.
        """
        property = self.get_object()
        match request.method:
            case "POST":
                return Response(shown(self._connect(request, property)), status=201)
            case "PATCH":
                integration = self.integration_of(property)
                body = ChangeSerializer(data=request.data)
                body.is_valid(raise_exception=True)
                return Response(shown(connecting.change(integration, **body.validated_data)))
            case "DELETE":
                query = DisconnectQuery(data=request.query_params)
                query.is_valid(raise_exception=True)
                self._disconnect(self.integration_of(property), close_sales=query.validated_data["close_sales"])
                return Response(status=204)
        return Response(shown(self.integration_of(property)))

    def _connect(self, request: Request, property: Property) -> Integration:
        body = ConnectSerializer(data=request.data, context=self.get_serializer_context())
        body.is_valid(raise_exception=True)
        said = body.validated_data
        try:
            return connecting.connect(
                property,
                said["account_id"],
                item_id=said["item_id"],
                markup_percent=said["markup_percent"],
                consents=said["consent"],
            )
        except connecting.ItemTaken:
            raise Refused(ITEM_TAKEN, "item_already_connected") from None
        except connecting.PropertyConnected:
            raise Refused(_("The property is connected already."), "property_already_connected") from None

    def _disconnect(self, integration: Integration, *, close_sales: bool) -> None:
        try:
            connecting.disconnect(integration, close_sales=close_sales)
        except connecting.Busy:
            raise Refused(_("The calendar is being sent right now. Try again in a minute."), "sync_busy") from None

    @extend_schema(request=None, responses=LINK)
    @action(detail=True, methods=["post"], url_path="avito/reconnect")
    def reconnect(self, request: Request, pk: str) -> Response:
        """A link that renews the consent of the connection's own account; afterwards the queue goes on."""
        property = self.get_object()
        integration = self.integration_of(property)
        return Response({"url": connecting.authorize_link(property, self.user, account=integration.account)})

    @extend_schema(request=None, responses={202: IntegrationSerializer})
    @action(detail=True, methods=["post"], url_path="avito/sync")
    def sync(self, request: Request, pk: str) -> Response:
        """Reads the bookings and sends what differs, as soon as a worker is free; revives what was given up."""
        integration = self.integration_of(self.get_object())
        queue.due_now(integration)
        return Response(shown(integration), status=202)

    @extend_schema(responses=ExchangeSerializer(many=True))
    @action(detail=True, url_path="avito/log")
    def log(self, request: Request, pk: str) -> Response:
        """What was sent to Avito and received, the newest first."""
        rows = self.integration_of(self.get_object()).exchanges.order_by("-id")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(ExchangeSerializer(page, many=True).data)
