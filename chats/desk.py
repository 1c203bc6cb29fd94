"""What people do with chats: enter them, correct them, give them to somebody, put them away."""

from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from api.roles import permissions_of
from avito_accounts.models import Account
from chats import memory, sync
from chats.models import CannedReply, Chat
from notifications import events

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


def canned_replies(user: User) -> QuerySet[CannedReply]:
    """Those that this person may use: everybody's and their own."""
    return CannedReply.objects.filter(Q(owner=None) | Q(owner=user)).order_by("title", "id")
