"""`/avito/chats`: stored conversations."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

import django_filters
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import mixins, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.filters import FlagFilter
from api.pages import PAGE_SIZE_MAX, Compared, KeysetPages, Position
from api.roles import role_of
from api.serializers import ModelSerializer, Serializer
from avito.messenger import TEXT_MAX
from avito_accounts.api import ErrorSerializer, error_of
from avito_accounts.models import BIGINT_MAX, Account
from chats import canned, phones, replies, search, services
from chats.models import AVITO_ID_MAX, TAG_LENGTH_MAX, CannedReply, CatchUp, Chat, Message

MESSAGES_IN_DETAIL = 50
TAGS_MAX = 20
CANNED_MAX = 500
ORDERS: Final = {"lastMessageAt": ("activity_at", "id"), "updatedAt": ("updated_at", "id"), "createdAt": ("id",)}
"""What the list may be ordered by. Ids grow as chats are made."""
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


class CannedReplySerializer(ModelSerializer):
    """`{name}` in the text stands for the client's name, `{item}` for the item's title."""

    is_shared = serializers.BooleanField(required=False)
    text = serializers.CharField(max_length=TEXT_MAX, validators=[canned.validate])

    class Meta:
        model = CannedReply
        fields = ("id", "title", "text", "is_shared", "created_at", "updated_at")


class FilledReplySerializer(ModelSerializer):
    """`isTooLong`: filled in, it is longer than Avito takes."""

    text = serializers.SerializerMethodField()
    is_too_long = serializers.SerializerMethodField()

    class Meta:
        model = CannedReply
        fields = ("id", "title", "text", "is_too_long")

    def get_text(self, reply: CannedReply) -> str:
        chat = self.context["chat"]
        return canned.fill(reply.text, name=chat.name, item=chat.item_title)

    def get_is_too_long(self, reply: CannedReply) -> bool:
        return len(self.get_text(reply)) > TEXT_MAX


def show_chats(ids: Sequence[int]) -> dict[int, Any]:
    """For live events."""
    chats = ChatViewSet.queryset.filter(pk__in=ids)
    return {chat.pk: ChatSerializer(chat).data for chat in chats}


def show_messages(ids: Sequence[int]) -> dict[int, Any]:
    """For live events, which have no path that would say whose messages they are: with the `chatId`."""
    messages = Message.objects.select_related("chat").filter(pk__in=ids)
    return {
        message.pk: {
            **MessageSerializer(message).data,
            "chatId": message.chat.avito_id,
            "accountId": message.chat.account_id,
        }
        for message in messages
    }


class TextSerializer(Serializer):
    text = serializers.CharField(max_length=TEXT_MAX)


class OkSerializer(Serializer):
    ok = serializers.BooleanField()


class PhoneField(serializers.CharField):
    """A phone number in any spelling, stored as E.164; null and "" for none."""

    default_error_messages = {"phone": _("This is no phone number.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=50, allow_blank=True, allow_null=True, **kwargs)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        written = super().run_validation(data)
        if written and not phones.e164(written):
            self.fail("phone")
        return phones.e164(written) if written else ""


class EnteredSerializer(Serializer):
    """What people enter. Avito's news never overwrite a name, phone or city that a person has written or emptied."""

    name = serializers.CharField(max_length=255, required=False, allow_blank=True, allow_null=True)
    phone = PhoneField(required=False)
    city = serializers.CharField(max_length=100, required=False, allow_blank=True, allow_null=True)
    status = serializers.ChoiceField(choices=Chat.Status.choices, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: "" if value is None and name in services.ENTERED else value for name, value in attrs.items()}


class NewChatSerializer(EnteredSerializer):
    chat_id = serializers.RegexField(r"^[^/]+\Z", source="avito_id", max_length=AVITO_ID_MAX)
    account_id = serializers.IntegerField(
        source="account", min_value=1, max_value=BIGINT_MAX, required=False, allow_null=True
    )

    def validate_accountId(self, value: int | None) -> Account | None:
        account = Account.objects.filter(pk=value).first() if value else None
        if value and account is None:
            raise ValidationError(_("There is no such account."), code="does_not_exist")
        return account


class ChangedChatSerializer(EnteredSerializer):
    """A missing field is kept. A new message of the client's makes a closed or archived chat active again."""

    tags = serializers.ListField(
        child=serializers.CharField(max_length=TAG_LENGTH_MAX), max_length=TAGS_MAX, required=False
    )
    assignee_id = serializers.IntegerField(
        source="assignee", min_value=1, max_value=BIGINT_MAX, required=False, allow_null=True
    )

    def validate_tags(self, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))

    def validate_assigneeId(self, value: int | None) -> User | None:
        user = services.assignee(value) if value else None
        if value and user is None:
            raise ValidationError(
                _("There is no such user, or chats are not the user's business."), code="does_not_exist"
            )
        return user


class ChatFilter(django_filters.FilterSet):
    """All of them together; unknown ones are ignored."""

    status = django_filters.CharFilter(method="by_status", label=_("comma list of active, closed, archived"))
    city = django_filters.CharFilter(method="by_city", max_length=100, label=_("the city, ignoring case"))
    phone = django_filters.CharFilter(
        method="by_phone", max_length=50, label=_("a phone in any spelling, or three digits of it in a row or more")
    )
    accountId = django_filters.NumberFilter(
        field_name="account_id", min_value=1, max_value=BIGINT_MAX, decimal_places=0, label=_("account")
    )
    unread = FlagFilter(method="by_unread", label=_("with or without unread messages"))
    assignee = django_filters.CharFilter(method="by_assignee", label=_("me, none or a user's id"))
    tag = django_filters.CharFilter(method="by_tag", max_length=TAG_LENGTH_MAX, label=_("one of the chat's tags"))
    search = django_filters.CharFilter(
        method="untouched",
        min_length=search.LENGTH_MIN,
        max_length=search.LENGTH_MAX,
        label=_(
            "part of the client's name, of the item's title or of a message, ignoring case. Pages of a very common "
            "word may be shorter than the limit: as long as there is a next one, it goes on."
        ),
    )
    updatedAfter = django_filters.IsoDateTimeFilter(
        field_name="updated_at", lookup_expr="gt", label=_("changed after this time, by updatedAt")
    )
    ordering = django_filters.ChoiceFilter(
        method="untouched",
        choices=[(sign + name, sign + name) for name in ORDERS for sign in ("-", "")],
        label=_("by the last message's time, newest first, unless another order is asked for"),
    )

    class Meta:
        model = Chat
        fields: tuple[str, ...] = ()

    def untouched(self, queryset: QuerySet[Chat], name: str, value: Any) -> QuerySet[Chat]:
        """What `ChatPages` sees to."""
        return queryset

    def by_status(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        wanted = statuses_in(value)
        if unknown := [part for part in wanted if part not in Chat.Status.values]:
            raise ValidationError({"status": [_("%(status)s is no status.") % {"status": unknown[0][:50]}]})
        return queryset.filter(status__in=wanted)

    def by_city(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        return queryset.filter(city__iexact=value).exclude(city="")

    def by_phone(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        if whole := phones.e164(value):
            return queryset.filter(phone=whole)
        parts = phones.parts(value)
        if not parts:
            raise ValidationError({"phone": [_("Enter three digits of the number or more.")]})
        return queryset.filter(reduce(or_, (Q(phone__icontains=part) for part in parts)))

    def by_unread(self, queryset: QuerySet[Chat], name: str, value: bool) -> QuerySet[Chat]:
        return queryset.filter(unread_count__gt=0) if value else queryset.filter(unread_count=0)

    def by_assignee(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        if value == "none":
            return queryset.filter(assignee=None)
        if value == "me":
            return queryset.filter(assignee=self.request.user)
        if value.isascii() and value.isdigit() and len(value) < 19:
            return queryset.filter(assignee=int(value))
        raise ValidationError({"assignee": [_("Enter me, none or a user's id.")]})

    def by_tag(self, queryset: QuerySet[Chat], name: str, value: str) -> QuerySet[Chat]:
        return queryset.filter(tags__contains=[value])


def statuses_in(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class ChatPages(KeysetPages):
    """In the order that was asked for. Costs the same however rare or common what was asked for is."""

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any]:
        ordering = request.query_params.get("ordering") or "-lastMessageAt"
        self.key, self.ascending = ORDERS[ordering.removeprefix("-")], not ordering.startswith("-")
        return super().paginate_queryset(queryset, request, view)

    def rows(
        self, queryset: QuerySet[Any], position: Position | None, *, backwards: bool
    ) -> tuple[list[Any], Position | None]:
        term, edge = self.request.query_params.get("search", "").strip(), None
        if term:
            words = search.words(term)
            if not words.are_rare and (edge := self._edge(queryset, position, backwards)):
                queryset = queryset.filter(Compared(self.key, edge, "<=" if self.ascending != backwards else ">="))
            queryset = words.among(queryset)
        # Found by their keys alone, before anything is joined to them.
        first, *others = (some.values("pk") for some in self._nearest(queryset, position, backwards, self.limit + 1))
        found = Chat.objects.select_related("account", "last_message")
        found = found.filter(pk__in=first.union(*others, all=True) if others else first)
        return list(self.ordered(found, None, backwards=backwards)[: self.limit + 1]), edge

    def _nearest(
        self, queryset: QuerySet[Any], position: Position | None, backwards: bool, count: int
    ) -> list[QuerySet[Any]]:
        """The first chats behind `position`, of each status apart: for one, an index has the order of the list."""
        statuses = dict.fromkeys(statuses_in(self.request.query_params.get("status", "")))
        each = [queryset.filter(status=status) for status in statuses] if len(statuses) > 1 else [queryset]
        return [self.ordered(one, position, backwards=backwards)[:count] for one in each]

    def _edge(self, queryset: QuerySet[Any], position: Position | None, backwards: bool) -> Position | None:
        """The last chat that may be looked at for this page; None when all may."""
        count = search.CHATS_AT_ONCE
        first, *others = (some.values_list(*self.key) for some in self._nearest(queryset, position, backwards, count))
        ahead = self.ordered(first.union(*others, all=True), None, backwards=backwards) if others else first
        return next((list(key) for key in ahead[count - 1 : count]), None)


class ChatExists(APIException):
    status_code, default_code = 409, "chat_exists"
    default_detail = _("There is a chat with this id already.")


class NotFailed(APIException):
    status_code, default_code = 409, "not_failed"
    default_detail = _("Only a message that has failed can be sent again.")


@extend_schema_view(retrieve=extend_schema(responses=ChatDetailSerializer))
class ChatViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Chat]):
    """Stored conversations, newest activity first."""

    queryset = Chat.objects.all()
    serializer_class = ChatSerializer
    filterset_class = ChatFilter
    pagination_class = ChatPages
    needs = "chats.use"
    lookup_field = "avito_id"
    lookup_url_kwarg = "chat_id"
    lookup_value_regex = "[^/]+"

    def get_object(self) -> Chat:
        """The chat with Avito's id.

        Two accounts of ours that talk to each other share it: then `accountId` in the query says whose side is meant,
        else the one with the newest activity is.
        """
        avito_id = self.kwargs["chat_id"]
        if "\0" in avito_id:
            raise Http404
        chats = self.get_queryset().select_related("account__authorization", "last_message")
        account_id = self.request.query_params.get("accountId", "")
        if account_id:
            chats = chats.filter(account_id=account_id if account_id.isdecimal() and len(account_id) < 19 else 0)
        found = chats.filter(avito_id=avito_id).order_by("-activity_at", "-id").first()
        if found is None:
            raise Http404
        return found

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One chat with its last 50 messages, oldest first."""
        return Response(ChatDetailSerializer(self.get_object()).data)

    @extend_schema(request=NewChatSerializer, responses={201: ChatSerializer})
    def create(self, request: Request) -> Response:
        """Enter a chat by hand; with an account it is read at Avito soon. 409 `chat_exists` if it is there already."""
        asked = NewChatSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            chat = services.create(**asked.validated_data)
        except services.ChatExists:
            raise ChatExists from None
        return Response(ChatSerializer(chat).data, status=201)

    @extend_schema(request=ChangedChatSerializer, responses=ChatSerializer)
    def update(self, request: Request, chat_id: str) -> Response:
        """Correct, close, archive, reopen, tag or assign a chat. A missing field is kept.

        Name, phone and city are the person's from then on, also when emptied: Avito's news no longer change them.
        """
        chat = self.get_object()
        asked = ChangedChatSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        services.change(chat, **asked.validated_data)
        return Response(ChatSerializer(self.get_object()).data)

    @extend_schema(request=ChangedChatSerializer, responses=ChatSerializer)
    def partial_update(self, request: Request, chat_id: str) -> Response:
        """As PUT."""
        return self.update(request, chat_id)

    @extend_schema(responses=ChatSerializer(many=True), filters=False)
    @action(detail=False, url_path="by-phone/(?P<phone>[^/]+)", pagination_class=None, filter_backends=[])
    def by_phone(self, request: Request, phone: str) -> Response:
        """The chats with this phone, in any spelling, newest activity first; at most 200."""
        number = phones.e164(phone.strip())
        if not number:
            raise ValidationError({"phone": [_("This is no phone number.")]})
        chats = self.get_queryset().select_related("account", "last_message").filter(phone=number)
        return Response(ChatSerializer(chats.order_by("-activity_at", "-id")[:PAGE_SIZE_MAX], many=True).data)

    @extend_schema(responses=FilledReplySerializer(many=True), filters=False)
    @action(detail=True, url_path="canned-replies", pagination_class=None, filter_backends=[])
    def canned_replies(self, request: Request, chat_id: str) -> Response:
        """The canned replies that the caller may use, filled in for this chat, by title."""
        chat = self.get_object()
        found = CannedReply.objects.usable_by(request.user)[:CANNED_MAX]
        return Response(FilledReplySerializer(found, many=True, context={"chat": chat}).data)

    @extend_schema(responses=MessageSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=KeysetPages, filter_backends=[])
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

    @extend_schema(request=None, responses={202: MessageSerializer})
    @action(detail=True, methods=["post"], url_path=r"messages/(?P<message_id>\d{1,18})/retry")
    def retry(self, request: Request, chat_id: str, message_id: str) -> Response:
        """Have a failed message sent again, named by our `id`: it is queued anew. 409 `not_failed` for any other."""
        message = get_object_or_404(self.get_object().messages, pk=message_id)
        if not replies.retry(message):
            raise NotFailed
        message.refresh_from_db()
        return Response(MessageSerializer(message).data, status=202)

    @extend_schema(request=None, responses=OkSerializer)
    @action(detail=True, methods=["post"])
    def read(self, request: Request, chat_id: str) -> Response:
        """Mark everything in the chat as read, here and at Avito."""
        services.mark_read(self.get_object())
        return Response({"ok": True})


class CatchUpSerializer(ModelSerializer):
    """How far an account's chats have been read. `chatsFound`: when they were first listed; null before."""

    account_name = serializers.CharField(source="account.name", read_only=True)
    chats_left = serializers.IntegerField(read_only=True, help_text="found, and not read so far")
    error = serializers.SerializerMethodField()

    class Meta:
        model = CatchUp
        fields = ("account_id", "account_name", "ran_at", "seen_until", "chats_found", "chats_left", "error")
        read_only_fields = fields

    @extend_schema_field(ErrorSerializer(allow_null=True))
    def get_error(self, run: CatchUp) -> dict[str, str] | None:
        return error_of(run.error_code, run.error_detail)


class CatchUpViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[CatchUp]):
    """The accounts whose chats are read: the import of those they have had before, and what webhooks have missed."""

    queryset = CatchUp.objects.saying_how_far().select_related("account").order_by("account_id")
    serializer_class = CatchUpSerializer
    filter_backends = ()
    needs = "chats.use"


class CannedReplyViewSet(viewsets.ModelViewSet[CannedReply]):
    """Answers that are written once: shared by all, or one person's own.

    Everybody writes their own; those that all share are written by admins and directors.
    """

    queryset = CannedReply.objects.none()
    serializer_class = CannedReplySerializer
    needs = "chats.use"
    filter_backends = ()
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[CannedReply]:
        return CannedReply.objects.usable_by(self.request.user)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A missing field is kept."""
        return super().update(request, *args, **{**kwargs, "partial": True})

    def perform_create(self, serializer: Any) -> None:
        self._save(serializer, is_shared=False)

    def perform_update(self, serializer: Any) -> None:
        self._save(serializer, is_shared=serializer.instance.is_shared)

    def perform_destroy(self, instance: CannedReply) -> None:
        self._refuse_shared(instance.is_shared)
        instance.delete()

    def _save(self, serializer: Any, *, is_shared: bool) -> None:
        wanted = serializer.validated_data.pop("is_shared", is_shared)
        self._refuse_shared(is_shared or wanted)
        serializer.save(owner=None if wanted else self.request.user)

    def _refuse_shared(self, is_shared: bool) -> None:
        if is_shared and role_of(self.request.user) == "operator":
            raise PermissionDenied
