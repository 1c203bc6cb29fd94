"""`/accounts`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import django_filters
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator

import avito
from api.filters import FlagFilter
from api.serializers import ModelSerializer, Serializer, camelize
from avito.items import PAGES_MAX, PER_PAGE_MAX, STATUSES
from avito.statistics import DAYS_MAX
from avito_accounts import checks, jobs, oauth, proxies, services, statistics
from avito_accounts.errors import code_of, words
from avito_accounts.fields import look
from avito_accounts.models import (
    BIGINT_MAX,
    Account,
    Authorization,
    DailyStats,
    Job,
    Proxy,
    Run,
    mask,
    validate_proxy_host,
    validate_proxy_login,
)

NO_PROXY = "not_configured"
PROXY_STATUSES = [(NO_PROXY, _("no proxy")), *Proxy.Status.choices]


@extend_schema_field({"type": "string", "pattern": "^[0-9]{1,19}$", "nullable": True})
class UserIdField(serializers.Field[int | None, Any, str | None, Any]):
    """Avito's number: a string of digits outside, a 64-bit integer inside."""

    default_error_messages = {"invalid": _("Enter digits only."), "too_large": _("The number is too large.")}

    def to_internal_value(self, data: Any) -> int | None:
        text = str(data) if isinstance(data, int) and not isinstance(data, bool) else data
        if text == "":
            return None
        if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
            self.fail("invalid")
        if len(text) > 19 or not 0 < int(text) <= BIGINT_MAX:
            self.fail("too_large")
        return int(text)

    def to_representation(self, value: int | None) -> str | None:
        return None if value is None else str(value)


class SecretField(serializers.CharField):
    """A secret: shown as a mask, written as text; a mask that comes back means "keep", null and "" mean "clear"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, allow_blank=True, max_length=500, **kwargs)

    def get_attribute(self, instance: Any) -> Any:
        *path, name = str(self.source).split(".")
        for part in path:
            instance = getattr(instance, part)
        return None if instance is None else mask(instance, name)


class ExactField(serializers.CharField):
    """A text that may be absent, judged as it was sent: a line break at its end is not trimmed away."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, allow_blank=True, trim_whitespace=False, **kwargs)


class AuthorizationSerializer(ModelSerializer):
    class Meta:
        model = Authorization
        fields = ("kind", "scopes", "expires_at", "refreshable")


NOTHING: dict[str, Any] = {"kind": None, "scopes": [], "expiresAt": None, "refreshable": False}


class AccountSerializer(ModelSerializer):
    """An account as the API shows it. Secrets are masks, figures not known yet are null."""

    user_id = UserIdField(
        source="avito_user_id",
        required=False,
        allow_null=True,
        validators=[UniqueValidator(Account.objects.all(), message=_("Another account has this number."))],
    )
    client_id = SecretField()
    client_secret = SecretField()
    proxy_type = serializers.ChoiceField(
        source="proxy.type", choices=Proxy.Type.choices, required=False, allow_null=True
    )
    proxy_host = ExactField(source="proxy.host", max_length=253, validators=[validate_proxy_host])
    proxy_port = serializers.IntegerField(
        source="proxy.port", required=False, allow_null=True, min_value=1, max_value=65535
    )
    proxy_login = ExactField(source="proxy.login", max_length=255, validators=[validate_proxy_login])
    proxy_password = SecretField(source="proxy.password", trim_whitespace=False, validators=[validate_proxy_login])
    eternal_online_enabled = serializers.BooleanField(required=False)
    is_online = serializers.BooleanField(read_only=True)
    online_keep_alive_interval = serializers.IntegerField(required=False, min_value=60, max_value=3600)
    authorization = serializers.SerializerMethodField()
    connection_error = serializers.SerializerMethodField()
    proxy_status = serializers.SerializerMethodField()
    proxy_error = serializers.SerializerMethodField()
    proxy_checked_at = serializers.DateTimeField(source="proxy.checked_at", read_only=True, allow_null=True)
    proxy_latency_ms = serializers.IntegerField(source="proxy.latency_ms", read_only=True, allow_null=True)
    online_error = serializers.SerializerMethodField()
    online_method = serializers.SerializerMethodField()
    balance = serializers.SerializerMethodField()
    views_today = serializers.IntegerField(source="views_of_today", read_only=True, allow_null=True)
    contacts_today = serializers.IntegerField(source="contacts_of_today", read_only=True, allow_null=True)

    class Meta:
        model = Account
        written = (
            "name",
            "user_id",
            "client_id",
            "client_secret",
            "proxy_type",
            "proxy_host",
            "proxy_port",
            "proxy_login",
            "proxy_password",
            "eternal_online_enabled",
            "online_keep_alive_interval",
        )
        shown = (
            "authorization",
            "connection_status",
            "connection_error",
            "connection_checked_at",
            "proxy_status",
            "proxy_error",
            "proxy_checked_at",
            "proxy_latency_ms",
            "is_online",
            "online_method",
            "last_online_at",
            "online_error",
            "balance",
            "ads_count",
            "views_count",
            "contacts_count",
            "views_today",
            "contacts_today",
            "last_sync_at",
            "created_at",
            "updated_at",
        )
        fields = ("id", *written, *shown)
        read_only_fields = shown

    @extend_schema_field(AuthorizationSerializer)
    def get_authorization(self, account: Account) -> Any:
        authorization = getattr(account, "authorization", None)
        if authorization is None:
            own = Authorization.Kind.CLIENT_CREDENTIALS if account.has_own_keys else None
            return {**NOTHING, "kind": own, "refreshable": own is not None}
        return AuthorizationSerializer(authorization).data

    def get_connection_error(self, account: Account) -> dict[str, str] | None:
        return error_of(account.connection_error_code, account.connection_error_detail)

    @extend_schema_field(serializers.ChoiceField(choices=PROXY_STATUSES))
    def get_proxy_status(self, account: Account) -> str:
        return account.proxy.status if account.proxy else NO_PROXY

    def get_proxy_error(self, account: Account) -> dict[str, str] | None:
        return proxy_error_of(account.proxy)

    def get_online_error(self, account: Account) -> dict[str, str] | None:
        return error_of(*account.online_problem)

    def get_online_method(self, account: Account) -> str | None:
        return account.online_method or None

    def get_balance(self, account: Account) -> dict[str, float] | None:
        if account.balance_real is None or account.balance_bonus is None:
            return None
        return {"real": float(account.balance_real), "bonus": float(account.balance_bonus)}

    def to_representation(self, instance: Account) -> Any:
        shown = super().to_representation(instance)
        authorization = getattr(instance, "authorization", None)
        shown["clientId"] = mask(instance, "client_id", shown=8)
        if authorization is not None and authorization.kind == Authorization.Kind.OAUTH:
            # Not null means "authorised": after a consent the two keys show the masks of the two tokens.
            shown["clientId"] = shown["clientId"] or mask(authorization, "access_token")
            shown["clientSecret"] = shown["clientSecret"] or mask(authorization, "refresh_token")
        shown["proxyLogin"] = shown["proxyLogin"] or None
        return shown

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        proxy = attrs.pop("proxy", {})
        for given, names in ((attrs, services.KEYS), (proxy, {"password"})):
            for name in names & given.keys():
                if (given[name] or "").endswith("…"):
                    del given[name]
                else:
                    given[name] = given[name] or ""
        if proxy:
            attrs["proxy_address"] = self._proxy_address(proxy)
        return attrs

    def _proxy_address(self, given: dict[str, Any]) -> proxies.Address | None:
        """The proxy that the given fields and those kept make together; None for none."""
        current = self.instance.proxy if self.instance else None
        kept = {name: look(current, name) for name in proxies.Address._fields} if current else {}
        fields = {**kept, **given}
        if fields == kept:  # also when the password cannot be read: it stays as it is
            return KEEP  # type: ignore[no-any-return]
        if not fields.get("type"):
            if "type" not in given and any(given.values()):
                raise serializers.ValidationError({"proxyType": _("A proxy needs a type.")})
            return None
        for name in ("host", "port"):
            if not fields.get(name):
                raise serializers.ValidationError({camelize(f"proxy_{name}"): _("A proxy needs a host and a port.")})
        if fields.get("password") is None and "password" in fields:
            raise serializers.ValidationError({"proxyPassword": words("secrets_unreadable")})
        address = proxies.Address(
            fields["type"],
            fields["host"],
            fields["port"],
            fields.get("login") or "",
            fields.get("password") or "",
        )
        if address.host != kept.get("host"):
            with _named("proxyHost"):
                proxies.check_host(address.host)
        with _named("proxyLogin"):
            proxies.check_login(address.type, address.login, address.password)
        return address

    def create(self, validated_data: dict[str, Any]) -> Account:
        return self._store(Account(), validated_data)

    def update(self, instance: Account, validated_data: dict[str, Any]) -> Account:
        return self._store(instance, validated_data)

    def _store(self, account: Account, data: dict[str, Any]) -> Account:
        address = data.pop("proxy_address", KEEP)
        changed = {name for name, value in data.items() if look(account, name) != value}
        keys = services.KEYS & data.keys()
        # After a consent the masks of the keys stand for its tokens: clearing one ends the consent. Refused keys that
        # are typed once more deserve another try.
        ended = any(data[name] == "" for name in keys) and hasattr(account, "authorization")
        if ended or services.keys_refused(account):
            changed |= keys
        for name in changed:
            setattr(account, name, data[name])
        if address is not KEEP and address != _address_of(account.proxy):
            changed.add("proxy")
            account.proxy = None  # or the one of the address, see `save`
        try:
            return services.save(account, changed, proxy_address=address if "proxy" in changed else None)
        except IntegrityError as error:  # somebody has taken it since we looked
            raise _taken(error) from None


def show_accounts(ids: Sequence[int]) -> dict[int, Any]:
    """For live events."""
    accounts = Account.objects.select_related("authorization", "proxy").filter(pk__in=ids)
    return {account.pk: AccountSerializer(account).data for account in accounts}


KEEP: Any = object()


@contextmanager
def _named(field: str) -> Iterator[None]:
    """A refusal of the model's becomes one of the API's, about this field."""
    try:
        yield
    except ValidationError as error:
        raise serializers.ValidationError({field: error.message}, code=error.code) from None


def _address_of(proxy: Proxy | None) -> proxies.Address | None:
    return proxies.Address(*(look(proxy, name) for name in proxies.Address._fields)) if proxy else None


def error_of(code: str, text: str) -> dict[str, str] | None:
    """A stored failure in the reader's language."""
    return {"code": code, "detail": words(code, text)} if code else None


def proxy_error_of(proxy: Proxy | None) -> dict[str, str] | None:
    """Why a proxy is thought not to work."""
    if proxy is None or proxy.status != Proxy.Status.ERROR:
        return None
    return error_of("proxy_failed", proxy.error_reason)


def _taken(error: IntegrityError) -> serializers.ValidationError:
    is_number = "avito_user_id" in str(error)
    message = _("Another account has this number.") if is_number else _("Another account has this name.")
    return serializers.ValidationError({"userId" if is_number else "name": message}, code="unique")


class AccountFilter(django_filters.FilterSet):
    search = django_filters.CharFilter(method="by_name_or_number", label=_("part of the name, or Avito's number"))
    connectionStatus = django_filters.MultipleChoiceFilter(
        field_name="connection_status", choices=Account.ConnectionStatus.choices
    )
    proxyStatus = django_filters.MultipleChoiceFilter(method="by_proxy_status", choices=PROXY_STATUSES)
    eternalOnline = FlagFilter(field_name="eternal_online_enabled")
    ordering = django_filters.OrderingFilter(
        fields={
            "id": "id",
            "name": "name",
            "created_at": "createdAt",
            "updated_at": "updatedAt",
            "connection_status": "connectionStatus",
            "last_online_at": "lastOnlineAt",
            "balance_real": "balance",
            "views_today": "viewsToday",
        }
    )

    class Meta:
        model = Account
        fields: tuple[str, ...] = ()

    def by_name_or_number(self, queryset: QuerySet[Account], name: str, value: str) -> QuerySet[Account]:
        found = Q(name__icontains=value)
        if value.isascii() and value.isdigit() and len(value) <= 19 and int(value) <= BIGINT_MAX:
            found |= Q(avito_user_id=int(value))
        return queryset.filter(found)

    def by_proxy_status(self, queryset: QuerySet[Account], name: str, value: list[str]) -> QuerySet[Account]:
        if not value:
            return queryset
        found = Q(proxy__status__in=value)
        return queryset.filter(found | Q(proxy=None) if NO_PROXY in value else found)


class Person(Serializer):
    """Who an account is at Avito."""

    id = UserIdField(read_only=True)
    name = serializers.CharField()
    email = serializers.CharField()
    phone = serializers.CharField()
    profile_url = serializers.CharField()


class ErrorSerializer(Serializer):
    code = serializers.CharField()
    detail = serializers.CharField()


class BalanceSerializer(Serializer):
    """Roubles."""

    real = serializers.FloatField()
    bonus = serializers.FloatField()


class ConnectionCheckSerializer(Serializer):
    """What a check of a connection has found. `latencyMs`: of the call to Avito, through the proxy."""

    connection_status = serializers.ChoiceField(choices=Account.ConnectionStatus.choices)
    connection_error = ErrorSerializer(allow_null=True)
    proxy_status = serializers.ChoiceField(choices=PROXY_STATUSES)
    proxy_error = ErrorSerializer(allow_null=True)
    latency_ms = serializers.IntegerField(allow_null=True)
    checked_at = serializers.DateTimeField()
    account_info = Person(allow_null=True)


class ProxyCheckSerializer(Serializer):
    """What a check of a proxy has found."""

    proxy_status = serializers.ChoiceField(choices=PROXY_STATUSES)
    proxy_error = ErrorSerializer(allow_null=True)
    proxy_latency_ms = serializers.IntegerField(allow_null=True)
    checked_at = serializers.DateTimeField()


class FiguresSerializer(Serializer):
    """What the listings do. `views` and `contacts`: the last 30 Moscow days, with today."""

    ads_count = serializers.IntegerField(allow_null=True)
    views_count = serializers.IntegerField(allow_null=True)
    contacts_count = serializers.IntegerField(allow_null=True)
    views_today = serializers.IntegerField(allow_null=True)
    contacts_today = serializers.IntegerField(allow_null=True)


class SyncedSerializer(Serializer):
    """What was read. A part that failed keeps its old values and is named in `warnings`."""

    balance = BalanceSerializer(allow_null=True)
    items_stats = FiguresSerializer()
    account_info = Person(allow_null=True)
    synced_at = serializers.DateTimeField()
    warnings = serializers.ListField(child=serializers.CharField())


class CategorySerializer(Serializer):
    id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()


class ListingSerializer(Serializer):
    """A listing as Avito shows it. `price`: roubles, null if none is named."""

    id = serializers.CharField()
    title = serializers.CharField()
    price = serializers.IntegerField(allow_null=True)
    status = serializers.CharField()
    url = serializers.CharField()
    address = serializers.CharField()
    category = serializers.SerializerMethodField()

    @extend_schema_field(CategorySerializer)
    def get_category(self, listing: Any) -> dict[str, Any]:
        return {"id": listing.category_id, "name": listing.category}


class ListingPageSerializer(Serializer):
    items = ListingSerializer(many=True)
    page = serializers.IntegerField()
    per_page = serializers.IntegerField()


class ListingQuery(Serializer):
    """`status`: a comma list."""

    page = serializers.IntegerField(default=1, min_value=1, max_value=PAGES_MAX)
    per_page = serializers.IntegerField(default=25, min_value=1, max_value=PER_PAGE_MAX)
    status = serializers.CharField(default="active", max_length=100)

    def validate_status(self, value: str) -> list[str]:
        named = [word.strip() for word in value.split(",")]
        if not set(named) <= set(STATUSES):
            raise serializers.ValidationError(
                _("Choose from: %(words)s.") % {"words": ", ".join(STATUSES)}, code="invalid_choice"
            )
        return named


class HistoryQuery(Serializer):
    """Moscow days, both included; at most 270 of them. Without them the last 30."""

    to = serializers.DateField(required=False)

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.DateField(required=False), **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        until = attrs.get("to") or statistics.today()
        try:
            since = attrs.get("from") or until - timedelta(days=statistics.DAYS - 1)
            days = (until - since).days + 1
        except OverflowError:
            days, since = 0, until
        if days < 1:
            raise serializers.ValidationError({"to": _("The end lies before the beginning.")})
        if days > DAYS_MAX:
            raise serializers.ValidationError({"from": _("At most 270 days.")})
        return {"since": since, "until": until}


class DailyStatsSerializer(ModelSerializer):
    """What one Moscow day brought; null is not known. Balances are the last ones read on that day."""

    class Meta:
        model = DailyStats
        fields = ("date", "views", "contacts", "favorites", "ads_count", "balance_real", "balance_bonus")


class RunSerializer(ModelSerializer):
    """A check, synchronisation or subscription of all accounts, and how far it is."""

    total = serializers.IntegerField()
    done = serializers.IntegerField()
    failed = serializers.IntegerField()

    class Meta:
        model = Run
        fields = ("id", "kind", "started_at", "finished_at", "total", "done", "failed")


QUEUED = inline_serializer("Queued", {"queued": serializers.IntegerField()})


class InUse(APIException):
    """The account cannot go yet."""

    status_code = 409
    default_code = "account_in_use"


class AccountViewSet(viewsets.ModelViewSet[Account]):
    """Accounts at Avito."""

    serializer_class = AccountSerializer
    filterset_class = AccountFilter
    queryset = Account.objects.select_related("authorization", "proxy")
    lookup_value_regex = r"\d{1,18}"
    needs = "accounts.manage"
    needs_for = dict.fromkeys(("list", "retrieve", "info", "balance", "items", "stats"), "accounts.read")

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A field that is missing is kept, in PUT as in PATCH."""
        return super().update(request, *args, **{**kwargs, "partial": True})

    def perform_destroy(self, instance: Account) -> None:
        try:
            services.delete(Account.objects.filter(pk=instance.pk))
        except services.AccountInUse:
            raise InUse(_("A connected property uses the account. Disconnect the property first.")) from None

    @extend_schema(
        request=None,
        responses=inline_serializer(
            "AuthorizeLink", {"url": serializers.URLField(), "expiresIn": serializers.IntegerField()}
        ),
    )
    @action(detail=True, methods=["post"], url_path="authorize-link")
    def authorize_link(self, request: Request, pk: str) -> Response:
        """A link for a browser: it opens Avito's consent page for this account, once, within five minutes."""
        account = self.get_object()
        ticket = oauth.make_ticket(account, user=request.user)  # type: ignore[arg-type]  # signed in, see `needs`
        path = reverse("avito-authorize", args=[account.pk])
        return Response({"url": f"{settings.PUBLIC_URL}{path}?ticket={ticket}", "expiresIn": oauth.TICKET_SECONDS})

    @extend_schema(request=None, responses=ConnectionCheckSerializer)
    @action(detail=True, methods=["post"], url_path="check-connection")
    def check_connection(self, request: Request, pk: str) -> Response:
        """Makes a real call to Avito with the account's token, through its proxy. What fails is told, with a 200."""
        account = self.get_object()
        check = checks.check_connection(account)
        paused = isinstance(check.error, avito.RateLimited)
        result = {
            "connection_status": account.connection_status,
            "connection_error": error_of(code_of(check.error), "")
            if check.error and paused
            else error_of(account.connection_error_code, account.connection_error_detail),
            "proxy_status": account.proxy.status if account.proxy else NO_PROXY,
            "proxy_error": proxy_error_of(account.proxy),
            "latency_ms": check.latency_ms,
            "checked_at": check.checked_at,
            "account_info": check.owner,
        }
        return Response(ConnectionCheckSerializer(result).data)

    @extend_schema(request=None, responses=ProxyCheckSerializer)
    @action(detail=True, methods=["post"], url_path="check-proxy")
    def check_proxy(self, request: Request, pk: str) -> Response:
        """Sees whether the account's proxy carries a call to Avito, without the account's token."""
        proxy = self.get_object().proxy
        check = checks.check_proxy(proxy) if proxy else None
        result = {
            "proxy_status": proxy.status if proxy else NO_PROXY,
            "proxy_error": proxy_error_of(proxy),
            "proxy_latency_ms": check and check.latency_ms,
            "checked_at": check.checked_at if check else timezone.now(),
        }
        return Response(ProxyCheckSerializer(result).data)

    @extend_schema(request=None, responses=SyncedSerializer)
    @action(detail=True, methods=["post"], url_path="sync-stats")
    def sync_stats(self, request: Request, pk: str) -> Response:
        """Reads balance, listings and statistics now. What Avito's limits hold up is read by a worker soon after."""
        account = self.get_object()
        try:
            synced = statistics.sync(account, with_owner=True)
            is_paused = any(isinstance(error, avito.RateLimited) for error in synced.failures.values())
        except avito.RateLimited:
            jobs.queue(Job.Kind.SYNC, Account.objects.filter(pk=account.pk))
            raise
        if is_paused:
            jobs.queue(Job.Kind.SYNC, Account.objects.filter(pk=account.pk))
        result = {
            "balance": AccountSerializer().get_balance(account),
            "items_stats": account,
            "account_info": synced.owner,
            "synced_at": synced.at,
            "warnings": synced.warnings(),
        }
        return Response(SyncedSerializer(result).data)

    @extend_schema(request=None, responses={202: QUEUED})
    @action(detail=False, methods=["post"], url_path="check-all")
    def check_all(self, request: Request) -> Response:
        """Lets workers check all accounts; `GET /accounts/runs` tells how far they are."""
        return self._start(Run.Kind.CHECK, request)

    @extend_schema(request=None, responses={202: QUEUED})
    @action(detail=False, methods=["post"], url_path="sync-all")
    def sync_all(self, request: Request) -> Response:
        """Lets workers read the figures of all accounts; `GET /accounts/runs` tells how far they are."""
        return self._start(Run.Kind.SYNC, request)

    @extend_schema(request=None, responses={202: QUEUED})
    @action(detail=False, methods=["post"], url_path="subscribe-all")
    def subscribe_all(self, request: Request) -> Response:
        """Lets workers subscribe the webhooks of all accounts; `GET /accounts/runs` tells how far they are.

        Also of those that a person has taken off before.
        """
        return self._start(Run.Kind.SUBSCRIBE, request)

    def _start(self, kind: str, request: Request) -> Response:
        _run, queued = jobs.start_run(kind, user=request.user)  # type: ignore[arg-type]  # signed in, see `needs`
        return Response({"queued": queued}, status=202)

    @extend_schema(responses=RunSerializer(many=True), filters=False)
    @action(detail=False, filterset_class=None)
    def runs(self, request: Request) -> Response:
        """Checks, synchronisations and subscriptions of all accounts, the newest first."""
        page = self.paginate_queryset(Run.objects.with_progress())  # type: ignore[arg-type]  # not of this resource
        return self.get_paginated_response(RunSerializer(page, many=True).data)

    @extend_schema(responses=RunSerializer)
    @action(detail=False, url_path=r"runs/(?P<run_id>\d{1,18})", filterset_class=None)
    def run(self, request: Request, run_id: str) -> Response:
        """How far a check, synchronisation or subscription of all accounts is."""
        return Response(RunSerializer(get_object_or_404(Run.objects.with_progress(), pk=run_id)).data)

    @extend_schema(responses=Person)
    @action(detail=True)
    def info(self, request: Request, pk: str) -> Response:
        """Who the account is, live from Avito."""
        return Response(Person(services.call(self.get_object(), lambda client: client.user.me())).data)

    @extend_schema(responses=BalanceSerializer)
    @action(detail=True)
    def balance(self, request: Request, pk: str) -> Response:
        """The account's wallet, live from Avito."""
        account = self.get_object()
        user_id = services.user_id(account)
        return Response(BalanceSerializer(services.call(account, lambda client: client.user.balance(user_id))).data)

    @extend_schema(parameters=[ListingQuery], responses=ListingPageSerializer)
    @action(detail=True)
    def items(self, request: Request, pk: str) -> Response:
        """A page of the account's listings, live from Avito."""
        account = self.get_object()
        query = ListingQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        page = services.call(
            account,
            lambda client: client.items.page(
                page=wanted["page"], per_page=wanted["per_page"], statuses=wanted["status"]
            ),
        )
        shown = {"items": page.listings, "page": wanted["page"], "per_page": wanted["per_page"]}
        return Response(ListingPageSerializer(shown).data)

    @extend_schema(parameters=[HistoryQuery], responses=DailyStatsSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def stats(self, request: Request, pk: str) -> Response:
        """The account's figures day by day, as they were kept; a day of which nothing is known is left out."""
        account = self.get_object()
        query = HistoryQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        days = (query.validated_data["since"], query.validated_data["until"])
        rows = account.daily_stats.filter(date__range=days).order_by("date")
        return Response(DailyStatsSerializer(rows, many=True).data)
