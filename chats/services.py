"""What people do in chats: read them, take their words back."""

import structlog
from django.db import transaction
from django.utils import timezone

import avito
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from chats import sync
from chats.models import Chat, Message
from notifications import events

log = structlog.get_logger(__name__)


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
