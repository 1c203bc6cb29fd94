"""What people do with chats: enter them, correct them, read them, take their words back."""

from typing import Any, Final

import structlog
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

import avito
from api.roles import permissions_of
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from chats import memory, sync
from chats.models import Chat, Message
from notifications import events

log = structlog.get_logger(__name__)

ENTERED: Final = ("name", "phone", "city")
"""What Avito tells of too. Once a person has changed it, also to nothing, it is the person's."""


class ChatExists(Exception):
    """There is a chat with this id already."""


def create(*, avito_id: str, account: Account | None = None, **fields: Any) -> Chat:
    """A chat entered by hand. With an account it is read at Avito soon. Raises ChatExists.

    `fields`: some of ENTERED, and `status`.
    """
    user_id = (account.avito_user_id if account else None) or 0
    entered = [name for name in ENTERED if fields.get(name)]
    try:
        with transaction.atomic():
            memory.lock_ids({avito_id})
            same = Chat.objects.filter(avito_id=avito_id)
            # A chat of nobody's becomes its account's, and may be any account's.
            if same.filter(Q(avito_user_id__in=(0, user_id)) if user_id else Q()).exists():
                raise ChatExists
            chat = Chat.objects.create(
                avito_id=avito_id, avito_user_id=user_id, account=account, entered=entered, **fields
            )
            events.emit("chat.created", chat.pk)
            sync.want_sync(chat)
    except IntegrityError:
        raise ChatExists from None
    return chat


def change(chat: Chat, **fields: Any) -> None:
    """Change what people may change: ENTERED, `status`, `tags`, `assignee`."""
    with transaction.atomic():
        mine = Chat.objects.select_for_update(of=("self",)).get(pk=chat.pk)
        changed = [name for name, value in fields.items() if getattr(mine, name) != value]
        for name in changed:
            setattr(mine, name, fields[name])
        if changed:
            mine.entered = sorted({*mine.entered, *(name for name in ENTERED if name in changed)})
            mine.updated_at = timezone.now()
            mine.save(update_fields=[*changed, "entered", "updated_at"])
            events.emit("chat.updated", mine.pk)


def assignee(user_id: int) -> User | None:
    """The user, if chats may be given to them: active, and with the right to use them."""
    user = User.objects.filter(pk=user_id).first()
    return user if user is not None and "chats.use" in permissions_of(user) else None


def mark_read(chat: Chat) -> None:
    """Everything in this chat has been read here; Avito is told too, when the account can. Raises AvitoError."""
    mark_read_here(chat)
    if chat.account is None:
        return
    try:
        user_id = accounts.user_id(chat.account)
        accounts.call(chat.account, lambda client: client.messenger.mark_read(user_id, chat.avito_id))
    except AccountUnusable as error:
        log.info("chat_read_here_only", chat_id=chat.pk, error=type(error).__name__)


def mark_read_here(chat: Chat) -> None:
    with transaction.atomic():
        locked = Chat.objects.select_for_update().get(pk=chat.pk)
        # What Avito hides has been read by nobody.
        inbound = locked.messages.filter(direction=Message.Direction.INBOUND, read_at=None, is_placeholder=False)
        events.emit("message.updated", *inbound.values_list("pk", flat=True))
        inbound.update(read_at=timezone.now())
        locked.unread_count = 0
        locked.save(update_fields=["unread_count", "updated_at"])
        events.emit("chat.updated", locked.pk)


def delete_message(account: Account, *, avito_id: str, message_id: str) -> None:
    """Take an own message back at Avito; here its words are kept, but shown no more.

    Raises AvitoError, AccountUnusable.
    """
    user_id = accounts.user_id(account)
    try:
        sync.call(account, lambda client: client.messenger.delete_message(user_id, avito_id, message_id))
    except avito.AvitoError as error:
        chat = Chat.objects.filter(avito_user_id=user_id, avito_id=avito_id).first() if error.maybe_done else None
        if chat is not None:
            sync.want_sync(chat)  # the chat will show whether it was done
        raise
    with transaction.atomic():
        mine = Message.objects.filter(chat__avito_id=avito_id, avito_user_id=user_id, avito_id=message_id)
        rows = list(mine.values_list("pk", "chat"))
        mine.update(type="deleted")
        events.emit("message.updated", *(pk for pk, _chat in rows))
        events.emit("chat.updated", *(chat for _pk, chat in rows))
