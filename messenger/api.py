"""`/messenger/accounts/{accountId}`: Avito's messenger, live."""

from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import Serializer
from avito.messenger import OFFSET_MAX, PAGE_MAX
from avito_accounts import services as accounts
from avito_accounts.models import BIGINT_MAX, Account
from chats import replies
from chats import services as chats
from chats.api import OkSerializer, TextSerializer
from chats.models import Chat
from chats.models import Message as StoredMessage


class LiveUserSerializer(Serializer):
    id = serializers.CharField()
    name = serializers.CharField()
    avatar_url = serializers.CharField()
    profile_url = serializers.CharField()


class LiveItemSerializer(Serializer):
    id = serializers.CharField()
    title = serializers.CharField()
    price_string = serializers.CharField()
    url = serializers.CharField()
    image_url = serializers.CharField()


class LiveMessageSerializer(Serializer):
    """A message as Avito shows it right now."""

    id = serializers.CharField()
    author_id = serializers.IntegerField(allow_null=True)
    direction = serializers.ChoiceField(choices=["in", "out"])
    type = serializers.CharField()
    text = serializers.CharField()
    content = serializers.DictField()
    created_at = serializers.DateTimeField()
    is_read = serializers.BooleanField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)


class LiveChatSerializer(Serializer):
    id = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    users = LiveUserSerializer(many=True)
    item = LiveItemSerializer(allow_null=True)
    last_message = LiveMessageSerializer(allow_null=True)


class LiveMetaSerializer(Serializer):
    has_more = serializers.BooleanField()


class LiveChatsSerializer(Serializer):
    chats = LiveChatSerializer(many=True)
    meta = LiveMetaSerializer(source="*")


class LiveMessagesSerializer(Serializer):
    messages = LiveMessageSerializer(many=True)
    meta = LiveMetaSerializer(source="*")


class PageQuery(Serializer):
    limit = serializers.IntegerField(required=False, min_value=1, max_value=PAGE_MAX, default=50)
    offset = serializers.IntegerField(required=False, min_value=0, max_value=OFFSET_MAX, default=0)


class CommaList(serializers.ListField):
    """`a,b` in a query."""

    def to_internal_value(self, data: Any) -> list[Any]:
        return super().to_internal_value([part for item in data for part in item.split(",") if part])


class ChatsQuery(PageQuery):
    unread_only = serializers.BooleanField(required=False, default=False)
    item_ids = CommaList(
        child=serializers.IntegerField(min_value=1, max_value=BIGINT_MAX), required=False, default=list, max_length=100
    )
    chat_types = CommaList(child=serializers.ChoiceField(choices=["u2i", "u2u", "a2u"]), required=False, default=list)


class MessengerViewSet(viewsets.GenericViewSet[Account]):
    """Avito's messenger through the account's token and proxy."""

    queryset = Account.objects.select_related("authorization")
    serializer_class = LiveMessageSerializer
    filter_backends = ()
    needs = "messenger.use"

    @extend_schema(operation_id="messenger_chats_list", parameters=[ChatsQuery], responses=LiveChatsSerializer)
    def chats(self, request: Request, account_id: int) -> Response:
        """The account's chats at Avito."""
        account, query = self._account(account_id), _query(ChatsQuery, request)
        user_id = accounts.user_id(account)
        page = accounts.call(account, lambda client: client.messenger.chats(user_id, **query))
        return Response(LiveChatsSerializer(page).data)

    @extend_schema(operation_id="messenger_chats_retrieve", responses=LiveChatSerializer)
    def chat(self, request: Request, account_id: int, chat_id: str) -> Response:
        """One chat at Avito."""
        account = self._account(account_id)
        user_id = accounts.user_id(account)
        found = accounts.call(account, lambda client: client.messenger.chat(user_id, chat_id))
        return Response(LiveChatSerializer(found).data)

    @extend_schema(operation_id="messenger_messages_list", parameters=[PageQuery], responses=LiveMessagesSerializer)
    def messages(self, request: Request, account_id: int, chat_id: str) -> Response:
        """A chat's messages, newest first. Does not mark them as read; what is seen here is also stored."""
        account, query = self._account(account_id), _query(PageQuery, request)
        user_id = accounts.user_id(account)
        page = accounts.call(account, lambda client: client.messenger.messages(user_id, chat_id, **query))
        chats.store_messages(account, chat_id, page.messages)
        return Response(LiveMessagesSerializer(page).data)

    @extend_schema(
        operation_id="messenger_messages_send", request=TextSerializer, responses={201: LiveMessageSerializer}
    )
    def send(self, request: Request, account_id: int, chat_id: str) -> Response:
        """Send a text. After a timeout it is looked for in the chat and never blindly sent twice."""
        account = self._account(account_id)
        asked = TextSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        author: Any = request.user
        message = replies.send_now(account, avito_id=chat_id, text=asked.validated_data["text"], author=author)
        return Response(LiveMessageSerializer(_live(message)).data, status=201)

    @extend_schema(operation_id="messenger_messages_read", request=None, responses=OkSerializer)
    def read(self, request: Request, account_id: int, chat_id: str, message_id: str) -> Response:
        """Mark the chat as read: Avito marks all of it, whichever message is named."""
        account = self._account(account_id)
        user_id = accounts.user_id(account)
        accounts.call(account, lambda client: client.messenger.mark_read(user_id, chat_id))
        stored = Chat.objects.filter(avito_user_id=user_id, avito_id=chat_id).first()
        if stored is not None:
            chats.mark_read_here(stored)
        return Response({"ok": True})

    def _account(self, account_id: int) -> Account:
        if "\0" in self.kwargs.get("chat_id", ""):
            raise Http404
        return get_object_or_404(self.get_queryset(), pk=account_id)


def _query(serializer: type[PageQuery], request: Request) -> dict[str, Any]:
    given: dict[str, Any] = request.query_params.dict()
    for name in ("itemIds", "chatTypes"):
        if name in request.query_params:
            given[name] = request.query_params.getlist(name)
    asked = serializer(data=given)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def _live(message: StoredMessage) -> dict[str, Any]:
    """A message that we have just sent, as Avito would show it."""
    return {
        "id": message.avito_id,
        "author_id": message.author_id,
        "direction": "out",
        "type": message.type,
        "text": message.text,
        "content": message.content,
        "created_at": message.created_at,
        "is_read": True,
        "read_at": None,
    }
