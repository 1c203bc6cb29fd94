"""`/str`: a host's properties, their rates and bookings, and what connects them to Avito. Everything is the owner's."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import django_filters
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field, inline_serializer
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import ModelSerializer, Serializer
from avito.rent import BASE_MIN_STAY_MAX, MIN_STAY_MAX
from avito_accounts.api import ErrorSerializer
from avito_accounts.fields import look
from avito_accounts.models import BIGINT_MAX, Account
from chats import phones
from integrations_str import bookings, calendar, connecting, health, log, queue, services
from integrations_str.models import (
    MARKUP_MAX,
    MARKUP_MIN,
    NIGHTS_MAX,
    PRICE_MAX,
    Booking,
    Conflict,
    Exchange,
    Integration,
    Property,
)
from integrations_str.push import waits_for_consent
from integrations_str.state import State, acked_by, books_of, state_of, states_of

DAYS_MAX = 731
"""Of one question for a calendar."""
DEFAULT_DAYS = 30


class Refused(APIException):
    """What is asked for stands against what is there."""

    status_code = 409


TAKEN = gettext_lazy("Another booking holds one of these nights.")
ITEM_TAKEN = gettext_lazy("This ID is already in use.")
MIN_STAY_ABOVE_BASE = gettext_lazy(
    "Avito takes up to 30 nights for single dates, but only up to 7 for the listing as a whole:"
    " beyond the year that is sent, its own minimum counts."
)


class PropertyIdField(serializers.PrimaryKeyRelatedField[Property]):
    """A property of the caller's own; another's is as unknown as one that does not exist."""

    def get_queryset(self) -> Any:
        return Property.objects.owned_by(self.context["request"].user)


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


def connected() -> QuerySet[Integration]:
    """Connections with what it takes to show them."""
    return Integration.objects.connected().select_related("task", "property", "account__authorization")


def states_for(integrations: Sequence[Integration]) -> dict[int, State]:
    """The states of those connections of which it is not known already that Avito has everything."""
    return states_of(
        [one for one in integrations if one.task.push_at or one.task.waits_for_consent or one.task.dead_at]
    )


def shown(integration: Integration) -> dict[str, Any]:
    """A connection as it is now."""
    integration = connected().get(pk=integration.pk)
    context = {"states": states_for([integration])}
    return dict(IntegrationSerializer(integration, context=context).data)


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


def _markup(**details: Any) -> serializers.DecimalField:
    return serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=MARKUP_MIN, max_value=MARKUP_MAX, required=False, **details
    )


class ConnectSerializer(ItemSerializer):
    markup_percent = _markup(default=Decimal(15))
    consent = serializers.BooleanField(default=False)


class ChangeSerializer(Serializer):
    """`consent`: the first push may open nights that are closed at Avito, and go out in spite of a conflict."""

    markup_percent = _markup()
    is_active = serializers.BooleanField(required=False)
    hold_pending = serializers.BooleanField(required=False, source="holds_pending")
    consent = serializers.BooleanField(required=False, source="consents", write_only=True)


class DisconnectQuery(Serializer):
    close_sales = serializers.BooleanField(default=False)


class MarkupQuery(Serializer):
    markup_percent = _markup()


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


class ConflictSerializer(ModelSerializer):
    """`to` exclusive, as in bookings."""

    id = serializers.IntegerField(read_only=True)
    property_id = serializers.IntegerField(read_only=True)
    bookings = serializers.SerializerMethodField()

    class Meta:
        model = Conflict
        fields = ["id", "property_id", "bookings", "since"]
        read_only_fields = fields

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        dates = {"from": serializers.DateField(source="start"), "to": serializers.DateField(source="end")}
        return super().get_fields() | dates

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_bookings(self, conflict: Conflict) -> list[int]:
        return [conflict.first_id, conflict.second_id]


def show_bookings(ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    rows = Booking.objects.filter(pk__in=ids).saying_if_in_conflict()
    return {row.pk: BookingSerializer(row).data for row in rows}


def show_integrations(ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    rows = list(connected().filter(pk__in=ids))
    context = {"states": states_for(rows)}
    return {row.pk: IntegrationSerializer(row, context=context).data for row in rows}


class OwnViewSet(viewsets.GenericViewSet[Any]):
    """Rows of whoever is signed in."""

    permission_classes = [IsAuthenticated]
    lookup_value_regex = r"\d{1,18}"

    @property
    def user(self) -> User:
        user = self.request.user
        assert isinstance(user, User)  # noqa: S101  see the permission
        return user

    def handle_exception(self, exc: Exception) -> Response:
        """What was deleted, or taken off, while the request waited for its turn is as missing as what never was."""
        is_gone = isinstance(exc, Property.DoesNotExist | Booking.DoesNotExist | Integration.DoesNotExist)
        return super().handle_exception(NotFound() if is_gone else exc)


LINK = inline_serializer("StrLink", {"url": serializers.URLField()})
AVAILABLE = inline_serializer("StrAvailable", {"available": serializers.BooleanField()})
FROM_TO = [OpenApiParameter(name, OpenApiTypes.DATE, description="included") for name in ("from", "to")]


class PropertyViewSet(
    mixins.ListModelMixin, mixins.CreateModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, OwnViewSet
):
    """The caller's properties, with their connection to Avito."""

    queryset = Property.objects.none()
    serializer_class = PropertySerializer
    filter_backends: list[Any] = []

    def get_queryset(self) -> QuerySet[Property]:
        return Property.objects.owned_by(self.request.user).order_by("id")

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("context", self.get_serializer_context())
        if args and self.action in ("list", "retrieve", "update", "partial_update"):
            properties = args[0] if kwargs.get("many") else [args[0]]
            kwargs["context"]["integrations"] = self._integrations(properties)
        else:
            kwargs["context"].setdefault("integrations", {})
        return super().get_serializer(*args, **kwargs)

    def _integrations(self, properties: Sequence[Property]) -> dict[int, Any]:
        rows = list(connected().filter(property__in=[one.pk for one in properties]))
        context = {"states": states_for(rows)}
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
        integration = connected().filter(property=property).first()
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
                integration = self._integration(property)
                body = ChangeSerializer(data=request.data)
                body.is_valid(raise_exception=True)
                return Response(shown(connecting.change(integration, **body.validated_data)))
            case "DELETE":
                query = DisconnectQuery(data=request.query_params)
                query.is_valid(raise_exception=True)
                self._disconnect(self._integration(property), close_sales=query.validated_data["close_sales"])
                return Response(status=204)
        return Response(shown(self._integration(property)))

    def _integration(self, property: Property) -> Integration:
        return get_object_or_404(connected(), property=property)

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
        integration = self._integration(property)
        return Response({"url": connecting.authorize_link(property, self.user, account=integration.account)})

    @extend_schema(request=None, responses={202: IntegrationSerializer})
    @action(detail=True, methods=["post"], url_path="avito/sync")
    def sync(self, request: Request, pk: str) -> Response:
        """Reads the bookings and sends what differs, as soon as a worker is free; revives what was given up."""
        integration = self._integration(self.get_object())
        queue.due_now(integration)
        return Response(shown(integration), status=202)

    @extend_schema(responses=ExchangeSerializer(many=True))
    @action(detail=True, url_path="avito/log")
    def log(self, request: Request, pk: str) -> Response:
        """What was sent to Avito and received, the newest first."""
        rows = self._integration(self.get_object()).exchanges.order_by("-id")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(ExchangeSerializer(page, many=True).data)

    @extend_schema(parameters=[MarkupQuery], responses=PreviewSerializer)
    @action(detail=True, url_path="avito/preview")
    def preview(self, request: Request, pk: str) -> Response:
        """What the next push would send; with `markupPercent` what it would send under another markup."""
        integration = self._integration(self.get_object())
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


class ConflictViewSet(mixins.ListModelMixin, OwnViewSet):
    """Bookings that claim the same nights, until one of them is cancelled or moved."""

    queryset = Conflict.objects.none()
    serializer_class = ConflictSerializer
    filter_backends: list[Any] = []

    def get_queryset(self) -> QuerySet[Conflict]:
        return Conflict.objects.owned_by(self.request.user).filter(solved_at=None).order_by("id")
