"""`/messenger/accounts/{accountId}`: Avito's messenger, live."""

from typing import Any, ClassVar

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, QueryDict
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, viewsets
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from api.serializers import Serializer
from avito.content import image_type, is_subscription_placeholder
from avito.messenger import IMAGE_MAX_BYTES, OFFSET_MAX, PAGE_MAX
from avito.types import Message as LiveMessage
from avito.wire import NAME_MAX
from avito_accounts import services as accounts
from avito_accounts import webhooks
from avito_accounts.models import BIGINT_MAX, Account
from chats import services as chats
from chats import shown, sync
from chats.api import OkSerializer, TextSerializer
from chats.models import Chat
from chats.replies import Picture
from messenger import services
from messenger.services import Outgoing

VOICES_MAX = 100
KEY_MAX = 255
KEY_HEADER = "Idempotency-Key"


IN_PROGRESS = gettext_lazy("The message of this key is being sent. Ask again in a moment.")
KEY_REUSED = gettext_lazy("This key has sent another message. Use a new key for a new message.")


class Conflict(APIException):
    """The message of an idempotency key stands in the way of another one."""

    status_code = 409


class MessageForm(MultiPartParser):
    """Multipart that answers 400 to all that is wrong with it."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except (SuspiciousOperation, LookupError, ValueError):
            raise ParseError(_("The body is not readable multipart data.")) from None


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
    type = serializers.SerializerMethodField()
    text = serializers.SerializerMethodField()
    content = serializers.DictField()
    created_at = serializers.DateTimeField()
    is_read = serializers.BooleanField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)

    def get_type(self, message: LiveMessage) -> str:
        return "system" if is_subscription_placeholder(message.text) else message.type

    def get_text(self, message: LiveMessage) -> str:
        is_placeholder = is_subscription_placeholder(message.text)
        return shown.words(message.type, message.text, message.content, is_placeholder=is_placeholder)


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


class VoicesQuery(Serializer):
    ids = CommaList(
        child=serializers.CharField(max_length=NAME_MAX),
        allow_empty=False,
        max_length=VOICES_MAX,
        help_text="voice ids, 1 to 100",
    )


class VoicesSerializer(Serializer):
    voices_urls = serializers.DictField(child=serializers.CharField(), help_text="addresses, good for an hour, by id")


class PictureSerializer(Serializer):
    """A picture: JPEG, HEIC, GIF, BMP or PNG, at most 24 MB. Words go as a message of their own."""

    image = serializers.FileField()

    def validate_image(self, file: UploadedFile) -> Picture:
        if file.size is None or file.size > IMAGE_MAX_BYTES:
            raise ValidationError(_("A picture has at most 24 MB."), code="max_size")
        data = file.read()
        content_type = image_type(data)
        if content_type is None:
            raise ValidationError(_("This is no JPEG, HEIC, GIF, BMP or PNG."), code="invalid_image")
        return Picture(data, content_type)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if len(self.initial_data.getlist("image")) > 1:
            raise ValidationError({"image": [_("Send one picture at a time.")]}, code="invalid")
        if "text" in self.initial_data:
            raise ValidationError({"text": [_("A picture has no caption. Send the text by itself.")]}, code="invalid")
        return given


class SubscriptionSerializer(Serializer):
    url = serializers.CharField(help_text="with … in place of a key")
    version = serializers.CharField()
    is_ours = serializers.BooleanField()


class WebhookSerializer(Serializer):
    """What the account's messages are delivered to, as Avito says."""

    subscriptions = SubscriptionSerializer(many=True)
    subscribed = serializers.BooleanField(help_text="is the address of this installation among them?")
    url = serializers.CharField(help_text="the address of this installation, with … in place of its key")


class MessengerViewSet(viewsets.GenericViewSet[Account]):
    """Avito's messenger through the account's token and proxy."""

    queryset = Account.objects.select_related("authorization")
    serializer_class = LiveMessageSerializer
    filter_backends = ()
    needs = "messenger.use"
    needs_for: ClassVar = {
        "webhook": "accounts.manage",
        "subscribe": "accounts.manage",
        "unsubscribe": "accounts.manage",
    }

    @extend_schema(operation_id="messenger_chats_list", parameters=[ChatsQuery], responses=LiveChatsSerializer)
    def chats(self, request: Request, account_id: int) -> Response:
        """The account's chats at Avito. What is seen here is also stored."""
        account, query = self._account(account_id), _query(ChatsQuery, request)
        user_id = accounts.user_id(account)
        page = sync.call(account, lambda client: client.messenger.chats(user_id, **query))
        sync.store_seen(account, page.chats)
        return Response(LiveChatsSerializer(page).data)

    @extend_schema(operation_id="messenger_chats_retrieve", responses=LiveChatSerializer)
    def chat(self, request: Request, account_id: int, chat_id: str) -> Response:
        """One chat at Avito. What is seen here is also stored."""
        account = self._account(account_id)
        user_id = accounts.user_id(account)
        found = sync.call(account, lambda client: client.messenger.chat(user_id, chat_id))
        sync.store_seen(account, [found])
        return Response(LiveChatSerializer(found).data)

    @extend_schema(operation_id="messenger_messages_list", parameters=[PageQuery], responses=LiveMessagesSerializer)
    def messages(self, request: Request, account_id: int, chat_id: str) -> Response:
        """A chat's messages, newest first. Does not mark them as read; what is seen here is also stored."""
        account, query = self._account(account_id), _query(PageQuery, request)
        user_id = accounts.user_id(account)
        page = sync.call(account, lambda client: client.messenger.messages(user_id, chat_id, **query))
        sync.store_messages(account, chat_id, page.messages, are_newest=query["offset"] == 0)
        return Response(LiveMessagesSerializer(page).data)

    @extend_schema(
        operation_id="messenger_messages_send",
        parameters=[
            OpenApiParameter(
                KEY_HEADER,
                str,
                OpenApiParameter.HEADER,
                description="1 to 255 printable characters; for 24 hours a repeat answers the first result, unsent",
            )
        ],
        request={"application/json": TextSerializer, "multipart/form-data": PictureSerializer},
        responses={201: LiveMessageSerializer},
    )
    def send(self, request: Request, account_id: int, chat_id: str) -> Response:
        """Send a text or a picture. After a timeout it is looked for in the chat and never blindly sent twice."""
        account = self._account(account_id)
        outgoing, key = _outgoing(request), _key(request)
        author: Any = request.user
        try:
            sent = services.send(account, chat_id=chat_id, outgoing=outgoing, author=author, key=key)
        except services.InProgress:
            raise Conflict(IN_PROGRESS, "in_progress") from None
        except services.KeyReused:
            raise Conflict(KEY_REUSED, "key_reused") from None
        return Response(LiveMessageSerializer(sent).data, status=201)

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

    @extend_schema(operation_id="messenger_messages_delete", responses={204: None})
    def take_back(self, request: Request, account_id: int, chat_id: str, message_id: str) -> Response:
        """Take back an own message. Avito allows it for one hour; in the chat remains that it was deleted."""
        chats.delete_message(self._account(account_id), avito_id=chat_id, message_id=message_id)
        return Response(status=204)

    @extend_schema(operation_id="messenger_voices_list", parameters=[VoicesQuery], responses=VoicesSerializer)
    def voices(self, request: Request, account_id: int) -> Response:
        """Where voice messages can be heard for an hour, by the ids in their `content`; unknown ids are left out."""
        account, asked = self._account(account_id), _query(VoicesQuery, request)
        user_id, ids = accounts.user_id(account), list(dict.fromkeys(asked["ids"]))
        urls = sync.call(account, lambda client: client.messenger.voice_urls(user_id, ids))
        return Response({"voicesUrls": urls})

    @extend_schema(operation_id="messenger_webhook_retrieve", responses=WebhookSerializer)
    def webhook(self, request: Request, account_id: int) -> Response:
        """What the account is subscribed to at Avito."""
        return self._webhook(self._account(account_id))

    @extend_schema(operation_id="messenger_webhook_subscribe", request=None, responses=WebhookSerializer)
    def subscribe(self, request: Request, account_id: int) -> Response:
        """Have Avito deliver the account's messages to this installation. Harmless to repeat."""
        account = self._account(account_id)
        webhooks.subscribe(account)
        return self._webhook(account)

    @extend_schema(operation_id="messenger_webhook_unsubscribe", responses={204: None})
    def unsubscribe(self, request: Request, account_id: int) -> Response:
        """Stop the deliveries to this installation, until somebody subscribes the account again."""
        account = self._account(account_id)
        webhooks.unsubscribe(account)
        return Response(status=204)

    def _webhook(self, account: Account) -> Response:
        return Response(WebhookSerializer(webhooks.state(account)).data)

    def _account(self, account_id: int) -> Account:
        if any("\0" in self.kwargs.get(name, "") for name in ("chat_id", "message_id")):
            raise Http404
        return get_object_or_404(self.get_queryset(), pk=account_id)


def _outgoing(request: Request) -> Outgoing:
    """The text or the picture of a request to send."""
    is_picture = isinstance(request.data, QueryDict) and "image" in request.data
    asked = (PictureSerializer if is_picture else TextSerializer)(data=request.data)
    asked.is_valid(raise_exception=True)
    return Outgoing(asked.validated_data.get("text", ""), asked.validated_data.get("image"))


def _key(request: Request) -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is None or (1 <= len(key) <= KEY_MAX and key.isascii() and key.isprintable()):
        return key
    raise ValidationError({KEY_HEADER: [_("A key has 1 to 255 printable characters.")]}, code="invalid")


def _query(serializer: type[Serializer], request: Request) -> dict[str, Any]:
    given: dict[str, Any] = request.query_params.dict()
    for name in ("itemIds", "chatTypes", "ids"):
        if name in request.query_params:
            given[name] = request.query_params.getlist(name)
    asked = serializer(data=given)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)
