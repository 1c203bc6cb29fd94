"""`/notifications`: the news that the caller may see, and what of it is read. `/events`: all that changes, live."""

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import QuerySet, Value
from django.http import HttpResponse
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.filters import FlagFilter
from api.roles import permissions_of
from api.serializers import ModelSerializer
from notifications import services, tickets
from notifications.models import Notification
from notifications.stream import Listener


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


def show_notifications(ids: Sequence[int]) -> dict[int, Any]:
    """For live events: they have just come, so nobody has read them."""
    news = Notification.objects.filter(pk__in=ids).annotate(is_read=Value(value=False))
    return {notification.pk: NotificationSerializer(notification).data for notification in news}


class EventStream(BaseRenderer):
    """Only a name for what the stream is: `notifications.stream` writes it."""

    media_type = "text/event-stream"
    format = "event-stream"


class StreamOrError(DefaultContentNegotiation):
    """Who does not take a stream of events is refused; errors are JSON all the same."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        super().select_renderer(request, [EventStream()], format_suffix)
        return renderers[0], renderers[0].media_type


class Events(APIView):
    """Live events, as Server-Sent Events, for as long as the caller stays.

    Each has an increasing `id`, a type in `event`, and in `data` the object as the API shows it now, in the language of
    the request: `chat.created`, `chat.updated`, `message.created`, `message.updated` (with the `chatId` and `accountId`
    that it belongs to), `account.updated`, `booking.created`, `booking.updated`, `booking.cancelled`,
    `booking.conflict`, `integration.updated`, `notification.created`. An object that is gone shows its `id` alone. The
    caller hears what the caller may read. Several changes at once may come as one event.

    After an interruption repeat the last `id` to get what was missed; at least one hour is kept. An unknown or too old
    id brings all that is kept, none at all brings what comes from now on. The stream ends when the token expires with
    which it, or its ticket, was asked for.
    """

    authentication_classes = [tickets.TicketAuthentication, *APIView.authentication_classes]
    permission_classes = [IsAuthenticated]
    content_negotiation_class = StreamOrError

    @extend_schema(
        parameters=[
            OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER, description="the last `id` received"),
            OpenApiParameter("lastEventId", str, description="the same, for a browser that opens with a new ticket"),
        ],
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> HttpResponse:
        last = request.headers.get("Last-Event-ID") or request.query_params.get("lastEventId") or ""
        known = last.isascii() and last.isdigit() and len(last) <= 18
        request._request.scope["listener"] = Listener(  # type: ignore[attr-defined]  # we are served by ASGI alone
            user_id=request.user.pk or 0,
            rights=permissions_of(request.user),
            language=translation.get_language() or "",
            after=(int(last) if known else 0) if last else None,
            standing=tickets.standing_of(request),
        )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return HttpResponse(content_type="text/event-stream; charset=utf-8", headers=headers)


class EventTicket(APIView):
    """A ticket that opens one stream of events within a minute, for browsers, whose EventSource sends no headers."""

    permission_classes = [IsAuthenticated]

    @extend_schema(
        request=None,
        responses=inline_serializer(
            "EventTicket", {"ticket": serializers.CharField(), "expiresIn": serializers.IntegerField()}
        ),
    )
    def post(self, request: Request) -> Response:
        ticket = tickets.issue(request.user, tickets.standing_of(request))  # type: ignore[arg-type]
        return Response({"ticket": ticket, "expiresIn": tickets.EXPIRES_SECONDS}, headers={"Cache-Control": "no-store"})
