"""`/eternal-online`: who is kept online, how that goes, and the same by hand."""

import django_filters
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from api.filters import FlagFilter
from api.serializers import Serializer
from avito_accounts.api import ErrorSerializer, error_of
from avito_accounts.models import IS_LEFT_ALONE, Account
from messenger import presence
from messenger.models import PresenceAttempt

METHODS = [("status", _("Avito accepted the status call")), ("activity", _("Avito accepted a call that is activity"))]
HISTORY, HISTORY_MAX = 50, 200


class PresenceSerializer(Serializer):
    """How an account is kept online. `onlineMethod`: of the last success.

    `nextDueAt`: null while it is off, or left alone since a person has to reconnect it; `onlineError` then says so.
    """

    account_id = serializers.IntegerField(source="pk")
    eternal_online_enabled = serializers.BooleanField()
    online_keep_alive_interval = serializers.IntegerField()
    is_online = serializers.BooleanField()
    online_method = serializers.SerializerMethodField()
    last_online_at = serializers.DateTimeField(allow_null=True)
    next_due_at = serializers.DateTimeField(source="next_online_at", allow_null=True)
    consecutive_failures = serializers.IntegerField(source="online_failures")
    online_error = serializers.SerializerMethodField()

    @extend_schema_field(serializers.ChoiceField(choices=METHODS, allow_null=True))
    def get_online_method(self, account: Account) -> str | None:
        return account.online_method or None

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_online_error(self, account: Account) -> dict[str, str] | None:
        return error_of(*account.online_problem)


class AttemptSerializer(Serializer):
    """One sign of life. `code`: why it failed, null if it did not."""

    at = serializers.DateTimeField()
    method = serializers.SerializerMethodField()
    ok = serializers.BooleanField()
    code = serializers.SerializerMethodField()
    latency_ms = serializers.IntegerField(allow_null=True)

    @extend_schema_field(serializers.ChoiceField(choices=METHODS, allow_null=True))
    def get_method(self, attempt: PresenceAttempt) -> str | None:
        return attempt.method or None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_code(self, attempt: PresenceAttempt) -> str | None:
        return attempt.code or None


class IntervalSerializer(Serializer):
    interval = serializers.IntegerField(required=False, min_value=60, max_value=3600)


class HistoryQuery(Serializer):
    limit = serializers.IntegerField(required=False, min_value=1, max_value=HISTORY_MAX, default=HISTORY)


class PresenceFilter(django_filters.FilterSet):
    enabled = FlagFilter(field_name="eternal_online_enabled")
    failing = FlagFilter(method="by_failure", label=_("the last attempt failed, or a person has to reconnect it"))

    class Meta:
        model = Account
        fields: tuple[str, ...] = ()

    def by_failure(self, queryset: QuerySet[Account], name: str, value: bool) -> QuerySet[Account]:
        is_failing = Q(online_failures__gt=0) | IS_LEFT_ALONE
        return queryset.filter(is_failing) if value else queryset.exclude(is_failing)


class EternalOnlineViewSet(viewsets.GenericViewSet[Account]):
    """Accounts that are kept online."""

    queryset = Account.objects.select_related("authorization", "proxy")
    serializer_class = PresenceSerializer
    filterset_class = PresenceFilter
    needs = "accounts.manage"
    needs_for = {"status": "accounts.read", "history": "accounts.read"}

    @extend_schema(operation_id="eternal_online_status", responses=PresenceSerializer(many=True))
    def status(self, request: Request) -> Response:
        """How every account fares."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset().order_by("pk")))
        return self.get_paginated_response(PresenceSerializer(page, many=True).data)

    @extend_schema(operation_id="eternal_online_enable", request=IntervalSerializer, responses=PresenceSerializer)
    def enable(self, request: Request, account_id: int) -> Response:
        """Keeps the account online from now on; the first sign of life follows within seconds."""
        account = self._account(account_id)
        asked = IntervalSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._shown(presence.enable(account, **asked.validated_data))

    @extend_schema(operation_id="eternal_online_disable", request=None, responses=PresenceSerializer)
    def disable(self, request: Request, account_id: int) -> Response:
        """Leaves the account alone from now on."""
        return self._shown(presence.disable(self._account(account_id)))

    @extend_schema(operation_id="eternal_online_set_online", request=None, responses=PresenceSerializer)
    def set_online(self, request: Request, account_id: int) -> Response:
        """Gives a sign of life now."""
        return self._shown(presence.set_online(self._account(account_id)))

    @extend_schema(
        operation_id="eternal_online_history",
        parameters=[HistoryQuery],
        responses=AttemptSerializer(many=True),
        filters=False,
    )
    def history(self, request: Request, account_id: int) -> Response:
        """The last signs of life of an account, the newest first."""
        account = self._account(account_id)
        query = HistoryQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        rows = account.presence_attempts.order_by("-at", "-id")[: query.validated_data["limit"]]
        return Response(AttemptSerializer(rows, many=True).data)

    def _account(self, account_id: int) -> Account:
        return get_object_or_404(self.get_queryset(), pk=account_id)

    def _shown(self, account: Account) -> Response:
        return Response(PresenceSerializer(account).data)


class OnlineSerializer(Serializer):
    is_online = serializers.BooleanField()
    online_method = serializers.ChoiceField(choices=METHODS, allow_null=True)
    last_online_at = serializers.DateTimeField(allow_null=True)


class StatusViewSet(viewsets.GenericViewSet[Account]):
    """The messenger's status of an account."""

    queryset = Account.objects.select_related("authorization", "proxy")
    serializer_class = OnlineSerializer
    filter_backends = ()
    needs = "messenger.use"

    @extend_schema(operation_id="messenger_status_online", request=None, responses=OnlineSerializer)
    def online(self, request: Request, account_id: int) -> Response:
        """Gives a sign of life now."""
        account = presence.set_online(get_object_or_404(self.get_queryset(), pk=account_id))
        return Response(OnlineSerializer(account).data)
