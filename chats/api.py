"""`/avito/chats`: stored conversations."""

from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.filters import FlagFilter
from api.pages import KeysetPages
from api.serializers import ModelSerializer, Serializer
from avito.messenger import TEXT_MAX
from avito_accounts.models import BIGINT_MAX
from chats import replies, services
from chats.models import Chat, Message

MESSAGES_IN_DETAIL = 50
# What goes on inside is one word more than what the outside has to know.
SHOWN_STATUS = {Message.DeliveryStatus.SENDING: Message.DeliveryStatus.QUEUED}


class MessageSerializer(ModelSerializer):
    message_id = serializers.CharField(source="avito_id", read_only=True, allow_null=True)
    text = serializers.CharField(source="words", read_only=True)
    content = serializers.DictField(read_only=True)
    delivery_status = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = (
            "id",
            "message_id",
            "direction",
            "type",
            "text",
            "content",
            "author_id",
            "delivery_status",
            "error",
            "created_at",
            "read_at",
        )
        read_only_fields = fields

    @extend_schema_field(
        serializers.ChoiceField(
            choices=[status.value for status in Message.DeliveryStatus if status not in SHOWN_STATUS]
        )
    )
    def get_delivery_status(self, message: Message) -> str:
        status = Message.DeliveryStatus(message.delivery_status)
        return SHOWN_STATUS.get(status, status).value

    def get_error(self, message: Message) -> dict[str, str] | None:
        return {"code": message.error_code, "detail": message.error_detail} if message.error_code else None


class ChatSerializer(ModelSerializer):
    chat_id = serializers.CharField(source="avito_id", read_only=True)
    account_name = serializers.CharField(source="account.name", read_only=True, default=None, allow_null=True)
    item_id = serializers.SerializerMethodField()
    last_message = MessageSerializer(read_only=True, allow_null=True)

    class Meta:
        model = Chat
        fields = (
            "id",
            "chat_id",
            "account_id",
            "account_name",
            "status",
            "name",
            "phone",
            "city",
            "item_id",
            "item_title",
            "item_url",
            "chat_type",
            "last_message",
            "last_message_at",
            "unread_count",
            "messages_count",
            "assignee_id",
            "tags",
            "created_at",
            "updated_at",
        )
        read_only_fields = fields

    def get_item_id(self, chat: Chat) -> str | None:
        return None if chat.item_id is None else str(chat.item_id)


class ChatDetailSerializer(ChatSerializer):
    messages = serializers.SerializerMethodField()

    class Meta(ChatSerializer.Meta):
        fields = (*ChatSerializer.Meta.fields, "messages")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    @extend_schema_field(MessageSerializer(many=True))
    def get_messages(self, chat: Chat) -> Any:
        newest = chat.messages.order_by("-created_at", "-id")[:MESSAGES_IN_DETAIL]
        return MessageSerializer(reversed(newest), many=True).data


class TextSerializer(Serializer):
    text = serializers.CharField(max_length=TEXT_MAX)


class OkSerializer(Serializer):
    ok = serializers.BooleanField()


class ChatFilter(django_filters.FilterSet):
    accountId = django_filters.NumberFilter(
        field_name="account_id", min_value=1, max_value=BIGINT_MAX, decimal_places=0, label=_("account")
    )
    status = django_filters.CharFilter(method="by_status", label=_("comma list of active, closed, archived"))
    unread = FlagFilter(method="by_unread", label=_("with or without unread messages"))
    search = django_filters.CharFilter(method="by_words", label=_("part of the client's name or the item's title"))
    updatedAfter = django_filters.IsoDateTimeFilter(field_name="activity_at", lookup_expr="gt")

    class Meta:
        model = Chat
        fields: tuple[str, ...] = ()

    def by_status(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        wanted = [part.strip() for part in value.split(",") if part.strip()]
        if unknown := [part for part in wanted if part not in Chat.Status.values]:
            raise ValidationError({"status": [_("%(status)s is no status.") % {"status": unknown[0][:50]}]})
        return queryset.filter(status__in=wanted)

    def by_unread(self, queryset: QuerySet[Chat], name: str, value: bool) -> QuerySet[Chat]:
        return queryset.filter(unread_count__gt=0) if value else queryset.filter(unread_count=0)

    def by_words(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        return queryset.filter(Q(name__icontains=value) | Q(item_title__icontains=value))


class NewestActivity(KeysetPages):
    time_field = "activity_at"


class NewestMessages(KeysetPages):
    time_field = "created_at"


@extend_schema_view(retrieve=extend_schema(responses=ChatDetailSerializer))
class ChatViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Chat]):
    """Stored conversations, newest activity first."""

    queryset = Chat.objects.select_related("account__authorization", "last_message")
    serializer_class = ChatSerializer
    filterset_class = ChatFilter
    pagination_class = NewestActivity
    needs = "chats.use"
    lookup_field = "avito_id"
    lookup_url_kwarg = "chat_id"
    lookup_value_regex = "[^/]+"

    def get_object(self) -> Chat:
        """The chat with Avito's id; of two accounts that talk to each other, the one with the newest activity."""
        avito_id = self.kwargs["chat_id"]
        if "\0" in avito_id:
            raise Http404
        found = self.get_queryset().filter(avito_id=avito_id).order_by("-activity_at", "-id").first()
        if found is None:
            raise Http404
        return found

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One chat with its last 50 messages, oldest first."""
        return Response(ChatDetailSerializer(self.get_object()).data)

    @extend_schema(responses=MessageSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=NewestMessages, filter_backends=[])
    def messages(self, request: Request, chat_id: str) -> Response:
        """The chat's messages, newest first."""
        page = self.paginate_queryset(self.get_object().messages.all())  # type: ignore[arg-type]
        return self.get_paginated_response(MessageSerializer(page, many=True).data)

    @extend_schema(request=TextSerializer, responses={202: MessageSerializer})
    @action(detail=True, methods=["post"])
    def reply(self, request: Request, chat_id: str) -> Response:
        """Queue a reply; a worker delivers it, replies of one chat in their order."""
        chat = self.get_object()
        asked = TextSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        message = replies.reply(chat, text=asked.validated_data["text"], author=request.user)  # type: ignore[arg-type]
        return Response(MessageSerializer(message).data, status=202)

    @extend_schema(request=None, responses=OkSerializer)
    @action(detail=True, methods=["post"])
    def read(self, request: Request, chat_id: str) -> Response:
        """Mark everything in the chat as read, here and at Avito."""
        services.mark_read(self.get_object())
        return Response({"ok": True})
