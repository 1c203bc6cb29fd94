"""Sending once, however often it is asked for."""

import hashlib
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone

import avito
from avito.types import Message as LiveMessage
from avito_accounts.models import Account
from chats import replies
from chats.models import Message
from messenger.models import SendKey

KEPT = timedelta(hours=24)
Status = Message.DeliveryStatus


class InProgress(Exception):
    """The message of this key is on its way; its outcome is not known yet."""


class KeyReused(Exception):
    """The key belongs to a message with another content."""


@dataclass(frozen=True)
class Outgoing:
    """What is to be sent: a text or a picture."""

    text: str = field(default="", repr=False)
    picture: replies.Picture | None = None

    @property
    def digest(self) -> bytes:
        data = b"text:" + self.text.encode() if self.picture is None else b"image:" + self.picture.data
        return hashlib.sha256(data).digest()


def send(account: Account, *, chat_id: str, outgoing: Outgoing, author: User | None, key: str | None) -> LiveMessage:
    """Send a message; with a `key` that has sent the same one before, return what was answered then instead.

    Raises KeyReused, InProgress, avito.TimedOut while nobody knows whether the first one has arrived, and what
    `replies.send_now` raises. A key whose message surely did not arrive is free again.
    """
    once = Once(account, chat_id, key, outgoing.digest) if key is not None else None
    sent = once.sent_before() if once else None
    if sent is not None:
        return sent
    try:
        message = replies.send_now(
            account,
            avito_id=chat_id,
            text=outgoing.text,
            picture=outgoing.picture,
            author=author,
            claim=once.claim if once else None,
        )
    except Taken as taken:  # by an equal request, since we looked
        return taken.answer()
    return once.keep(message) if once else live(message)


def live(message: Message) -> LiveMessage:
    """A message that has been sent, as Avito would show it at once."""
    content = {name: part for name, part in message.content.items() if name != "image_id"}  # only we know that one
    return LiveMessage(
        id=message.avito_id or "",
        author_id=message.author_id,
        direction="out",
        type=message.type,
        text=message.text,
        content=content,
        created_at=message.created_at,
        is_read=True,
    )


class Taken(Exception):
    """The key has a message that may have been sent."""

    def __init__(self, row: SendKey, body_digest: bytes) -> None:
        super().__init__(row.pk)
        self.row, self.body_digest = row, body_digest

    def answer(self) -> LiveMessage:
        """What was answered; at first that the message has arrived. Raises KeyReused, InProgress, avito.TimedOut."""
        message = self.row.message
        if bytes(self.row.body_digest) != self.body_digest:
            raise KeyReused
        if self.row.answer is not None:
            return _answered(self.row.answer)
        if message.delivery_status == Status.SENT:
            return _keep(self.row)
        if message.delivery_status in (Status.UNKNOWN, Status.FAILED):
            raise avito.TimedOut("Whether the message has arrived is being found out")
        raise InProgress


@dataclass(frozen=True)
class Once:
    """One key of an account in a chat, and the digest of what it shall send."""

    account: Account
    chat_id: str
    key: str = field(repr=False)
    body_digest: bytes = field(repr=False)

    def sent_before(self) -> LiveMessage | None:
        """What the key was answered; None if it is free. Raises as `Taken.answer`."""
        row = self._rows().first()
        return Taken(row, self.body_digest).answer() if row and not _is_free(row) else None

    def claim(self, message: Message) -> None:
        """Give the key this message, which is about to be sent. Raises Taken. Needs the message's own transaction.

        Equal requests queue at the unique constraint until the first one has committed or failed.
        """
        row = None
        while row is None:  # one that is being forgotten right now is in the way, and is gone when it is looked for
            key = SendKey(**self._identity(), body_digest=self.body_digest, message=message)
            SendKey.objects.bulk_create([key], ignore_conflicts=True)
            row = self._rows().select_for_update(of=("self",)).first()
        if row.message_id == message.pk:
            return
        if not _is_free(row):
            raise Taken(row, self.body_digest)
        row.message, row.body_digest, row.created_at, row.answer = message, self.body_digest, timezone.now(), None
        row.save(update_fields=["message", "body_digest", "created_at", "answer"])

    def keep(self, message: Message) -> LiveMessage:
        """The answer for the message that has just been sent, from now on the answer of the key."""
        row = self._rows().filter(message=message).first()
        return _keep(row) if row else live(message)

    def _rows(self) -> QuerySet[SendKey]:
        return SendKey.objects.select_related("message").filter(**self._identity())

    def _identity(self) -> dict[str, object]:
        digest = hashlib.sha256(self.key.encode()).digest()
        return {"account": self.account, "chat_avito_id": self.chat_id, "digest": digest}


def forget_old_keys() -> int:
    """Delete the keys that no longer hold; their number."""
    return SendKey.objects.filter(created_at__lt=timezone.now() - KEPT).delete()[0]


def _keep(row: SendKey) -> LiveMessage:
    answer = live(row.message)
    kept = {**asdict(answer), "created_at": answer.created_at.isoformat()}
    SendKey.objects.filter(pk=row.pk, message=row.message, answer__isnull=True).update(answer=kept)
    return answer


def _answered(kept: dict[str, Any]) -> LiveMessage:
    return LiveMessage(**{**kept, "created_at": datetime.fromisoformat(kept["created_at"])})


def _is_free(row: SendKey) -> bool:
    """May the key send a message? Its time is over, or its message surely did not arrive."""
    if row.created_at < timezone.now() - KEPT:
        return True
    message = row.message
    return message.delivery_status == Status.FAILED and message.error_code != replies.OUTCOME_UNKNOWN
