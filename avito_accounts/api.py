"""`/accounts`."""

from collections.abc import Mapping
from typing import Any

import django_filters
from django.conf import settings
from django.db import IntegrityError
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import UniqueValidator

from api.serializers import ModelSerializer, camelize
from avito_accounts import oauth, services
from avito_accounts.fields import look
from avito_accounts.models import (
    BIGINT_MAX,
    Account,
    Authorization,
    mask,
    validate_proxy_host,
    validate_proxy_login,
)

SECRETS = (*services.KEYS, "proxy_password")


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

    def get_attribute(self, instance: Account) -> Any:
        return mask(instance, str(self.source))


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
    proxy_type = serializers.ChoiceField(choices=Account.ProxyType.choices, required=False, allow_null=True)
    proxy_host = ExactField(max_length=253, validators=[validate_proxy_host])
    proxy_login = ExactField(max_length=255, validators=[validate_proxy_login])
    proxy_password = SecretField(trim_whitespace=False, validators=[validate_proxy_login])
    eternal_online_enabled = serializers.BooleanField(required=False)
    online_keep_alive_interval = serializers.IntegerField(required=False, min_value=60, max_value=3600)
    authorization = serializers.SerializerMethodField()
    connection_error = serializers.SerializerMethodField()
    proxy_error = serializers.SerializerMethodField()
    online_error = serializers.SerializerMethodField()
    online_method = serializers.SerializerMethodField()
    balance = serializers.SerializerMethodField()

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

    def get_proxy_error(self, account: Account) -> dict[str, str] | None:
        return error_of(account.proxy_error_code, account.proxy_error_detail)

    def get_online_error(self, account: Account) -> dict[str, str] | None:
        return error_of(account.online_error_code, account.online_error_detail)

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
        for name in ("proxyType", "proxyHost", "proxyLogin"):
            shown[name] = shown[name] or None
        return shown

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for name in SECRETS:
            if name in attrs and (attrs[name] or "").endswith("…"):
                del attrs[name]
        for name in ("proxy_type", "proxy_host", "proxy_login", *SECRETS):
            if name in attrs:
                attrs[name] = attrs[name] or ""
        self._validate_proxy(attrs)
        return attrs

    def _validate_proxy(self, attrs: Mapping[str, Any]) -> None:
        """Fields that make sense only together are judged as they will stand together."""

        def will_be(name: str) -> Any:
            return attrs[name] if name in attrs else getattr(self.instance, name, None)

        if will_be("proxy_type"):
            for name in ("proxy_host", "proxy_port"):
                if not will_be(name):
                    raise serializers.ValidationError({camelize(name): _("A proxy needs a host and a port.")})

    def create(self, validated_data: dict[str, Any]) -> Account:
        return self._store(Account(), validated_data)

    def update(self, instance: Account, validated_data: dict[str, Any]) -> Account:
        return self._store(instance, validated_data)

    def _store(self, account: Account, data: dict[str, Any]) -> Account:
        changed = {name for name, value in data.items() if look(account, name) != value}
        keys = services.KEYS & data.keys()
        # After a consent the masks of the keys stand for its tokens: clearing one ends the consent. Refused keys that
        # are typed once more deserve another try.
        ended = any(data[name] == "" for name in keys) and hasattr(account, "authorization")
        if ended or services.keys_refused(account):
            changed |= keys
        for name in changed:
            setattr(account, name, data[name])
        try:
            return services.save(account, changed)
        except IntegrityError as error:  # somebody has taken it since we looked
            raise _taken(error) from None


def error_of(code: str, detail: str) -> dict[str, str] | None:
    """A stored failure in words of the reader's language where we have them."""
    if not code:
        return None
    return {"code": code, "detail": detail or str(WORDS.get(code, code))}


WORDS = {
    "token_expired": _("Token expired. Please reconnect."),
    "invalid_client": _("Avito refuses the account's own client id and secret."),
    "user_id_taken": _("Another account here already belongs to this profile at Avito."),
    "account_mismatch": _("The keys belong to another profile at Avito."),
}


def _taken(error: IntegrityError) -> serializers.ValidationError:
    is_number = "avito_user_id" in str(error)
    message = _("Another account has this number.") if is_number else _("Another account has this name.")
    return serializers.ValidationError({"userId" if is_number else "name": message}, code="unique")


class AccountFilter(django_filters.FilterSet):
    search = django_filters.CharFilter(method="by_name_or_number", label=_("part of the name, or Avito's number"))
    connectionStatus = django_filters.MultipleChoiceFilter(
        field_name="connection_status", choices=Account.ConnectionStatus.choices
    )
    proxyStatus = django_filters.MultipleChoiceFilter(field_name="proxy_status", choices=Account.ProxyStatus.choices)
    eternalOnline = django_filters.BooleanFilter(field_name="eternal_online_enabled")
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


class AccountViewSet(viewsets.ModelViewSet[Account]):
    """Accounts at Avito."""

    serializer_class = AccountSerializer
    filterset_class = AccountFilter
    queryset = Account.objects.select_related("authorization")
    lookup_value_regex = r"\d{1,18}"
    needs = "accounts.manage"
    needs_for = {"list": "accounts.read", "retrieve": "accounts.read"}

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A field that is missing is kept, in PUT as in PATCH."""
        return super().update(request, *args, **{**kwargs, "partial": True})

    def perform_destroy(self, instance: Account) -> None:
        services.delete(Account.objects.filter(pk=instance.pk))

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
