"""`/notifications`: the news that the caller may see, and what of it is read."""

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from api.filters import FlagFilter
from api.serializers import ModelSerializer
from notifications import services
from notifications.models import Notification


class NotificationSerializer(ModelSerializer):
    title = serializers.CharField(read_only=True)
    detail = serializers.CharField(read_only=True)
    is_read = serializers.BooleanField(read_only=True)

    class Meta:
        model = Notification
        fields = ("id", "kind", "level", "title", "detail", "path", "created_at", "is_read")
        read_only_fields = fields


class NotificationFilter(django_filters.FilterSet):
    unread = FlagFilter(method="by_unread", label=_("what the caller has not read, or has"))

    class Meta:
        model = Notification
        fields: tuple[str, ...] = ()

    def by_unread(self, queryset: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        return queryset.filter(is_read=not value)


class NotificationViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Notification]):
    """News for people, newest first, in the caller's language."""

    queryset = Notification.objects.all()
    serializer_class = NotificationSerializer
    filterset_class = NotificationFilter
    permission_classes = [IsAuthenticated]
    lookup_value_regex = r"\d{1,18}"

    def get_queryset(self) -> QuerySet[Notification]:
        mine = Notification.objects.visible_to(self.request.user).saying_if_read_by(self.request.user)
        return mine.order_by("-created_at", "-id")

    @extend_schema(
        request=None, responses=inline_serializer("NotificationRead", {"ok": serializers.BooleanField()}), filters=False
    )
    @action(detail=True, methods=["post"], filter_backends=[])
    def read(self, request: Request, pk: str) -> Response:
        """Mark one as read by the caller."""
        services.mark_read(Notification.objects.filter(pk=self.get_object().pk), user=request.user)
        return Response({"ok": True})

    @extend_schema(
        request=None,
        responses=inline_serializer(
            "NotificationsRead", {"ok": serializers.BooleanField(), "read": serializers.IntegerField()}
        ),
        filters=False,
    )
    @action(detail=False, methods=["post"], url_path="read-all", filter_backends=[], pagination_class=None)
    def read_all(self, request: Request) -> Response:
        """Mark all that the caller may see as read by the caller; `read` says how many were not."""
        count = services.mark_read(Notification.objects.visible_to(request.user), user=request.user)
        return Response({"ok": True, "read": count})
