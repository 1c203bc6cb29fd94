"""Replies out: queued in a row, delivered by a worker, at most once.

    queued -> sending -> sent | failed
                 |  ^
                 v  |  (two looks at the chat did not find it: it surely did not arrive)
              unknown -> sent

Avito knows no idempotency key. So a call that may have taken effect is never simply repeated: the reply is `unknown`
until the chat has been read back. Replies of one chat go out in their order; one that is not settled holds the next.

Whoever writes an outcome names the state he left the row in: queued, or sending with the number of his attempt. If it
is no longer so, somebody else has judged the reply meanwhile, and the late judgement is void.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

import avito
from avito_accounts import news, tokens
from avito_accounts import services as accounts
from avito_accounts.errors import AccountNotAuthorized, AccountUnusable, code_of
from avito_accounts.models import Account, database_now
from chats import memory, sync, tasks
from chats.models import Chat, Message
from doorbell import ring_on_commit
from notifications import events

log = structlog.get_logger(__name__)

Status = Message.DeliveryStatus
ATTEMPTS_MAX = 20
GIVE_UP_AFTER = timedelta(hours=24)
SENDING_MARGIN = timedelta(seconds=25)
TOKEN_PAUSE_SECONDS = 15
FIRST_LOOK = timedelta(seconds=2)
SECOND_LOOK = timedelta(seconds=10)
LOOKS_NEEDED = 2
LATE_EFFECT = timedelta(seconds=45)
"""Without an answer a reply may still be on its way at Avito: until then, that it is missing proves nothing."""
WITHOUT_ANSWER = ("avito_timeout", "worker_lost")
LOOK_LEASE = timedelta(seconds=60)
LOOK_PAUSE_MAX = timedelta(minutes=5)
SWEPT_AT_ONCE = 50
OUTCOME_UNKNOWN = "outcome_unknown"
"""The code of a failed reply that may have arrived all the same."""
TRANSIENT = (avito.NoAnswer, avito.RateLimited, avito.Broken, avito.Unreadable)


def reply(chat: Chat, *, text: str, author: User | None) -> Message:
    """Queue a reply. Raises AccountNotAuthorized when the chat has no account that could send it."""
    if chat.account is None or not can_write(chat.account):
        raise AccountNotAuthorized(chat.account_id)
    with transaction.atomic():
        message = put(chat, text=text, author=author, status=Status.QUEUED)
        ring_on_commit(tasks.deliver, message.pk)
    return message


def put(
    chat: Chat,
    *,
    text: str,
    author: User | None,
    status: str,
    type: str = "text",
    content: dict[str, Any] | None = None,
) -> Message:
    """A new message of ours in the chat. Needs a transaction."""
    locked = Chat.objects.select_for_update(of=("self",)).get(pk=chat.pk)
    sending = status == Status.SENDING
    message = Message(
        chat=locked,
        avito_user_id=locked.avito_user_id,
        direction=Message.Direction.OUTBOUND,
        type=type,
        text=text,
        content=content or {"text": text},
        written_by=author,
        author_id=locked.avito_user_id or None,
        delivery_status=status,
        is_live=sending,
        sending_at=Now() if sending else None,
        attempts=1 if sending else 0,
    )
    message.save(force_insert=True)
    memory.add_to_chat(locked, message)
    return message


def can_write(account: Account) -> bool:
    authorization = getattr(account, "authorization", None)
    return account.has_own_keys if authorization is None else not authorization.dead_reason


def deliver(message: Message) -> None:
    """Send a queued reply, if it is its turn and nobody else does. Its row tells the outcome."""
    if not _whose_turn_it_is().filter(pk=message.pk).exists():
        return
    account = message.chat.account
    if account is None:
        _settle(_queued(message), Status.FAILED, code="account_not_authorized")
        return
    token: str | None = None
    for _attempt in range(2):
        try:
            token = tokens.access_token(account, rejected=token)
            user_id = accounts.user_id(account)
        except (AccountUnusable, avito.AvitoError) as error:
            _judge(message, _queued(message), error)
            return
        until = _too_late_at()
        if not _claim(message):
            return
        try:
            _send(message, tokens.client_for(account, token, until=until), user_id)
        except avito.Unauthorized:
            if not _settle(_sending(message), Status.QUEUED):  # refused, so not done: once more with another token
                return
        except avito.AvitoError as error:
            _judge(message, _sending(message), error)
            return
        else:
            return
    tokens.flag(account)
    _settle(_queued(message), Status.FAILED, code="reconnect_required")
    ring_on_commit(tasks.deliver_next, message.chat_id)


@dataclass(frozen=True)
class Picture:
    """A picture to send. `content_type`: one of avito.messenger.IMAGE_TYPES."""

    data: bytes = field(repr=False)
    content_type: str


def send_now(
    account: Account,
    *,
    avito_id: str,
    text: str = "",
    picture: Picture | None = None,
    author: User | None,
    claim: Callable[[Message], object] | None = None,
) -> Message:
    """Send a text or a picture while somebody waits for it, ahead of what is queued. The row stands before the call.

    `claim`: gets the row in the transaction that makes it; what it raises takes the row back, and nothing is sent.
    Raises AccountUnusable, or avito.NotFound for a chat that Avito does not know: nothing is stored then, as when a
    picture cannot be uploaded. After any other AvitoError the row is `unknown` if the message may have arrived, and
    will be looked for; else `failed`. Whoever waited has heard of the failure, so it is never sent again by itself.
    """
    user_id = accounts.user_id(account)
    token = tokens.access_token(account)
    if not Chat.objects.filter(avito_user_id=user_id, avito_id=avito_id).exists():
        info = accounts.call(account, lambda client: client.messenger.chat(user_id, avito_id))
        sync.store_chat(info, user_id=user_id, account=account)
    else:
        _settle_doubts(user_id, avito_id)
    kind: dict[str, Any] = {}
    if picture is not None:
        kind = {"type": "image", "content": {"image_id": _upload(account, user_id, picture)}}
        token = tokens.access_token(account)
    until = _too_late_at()
    with transaction.atomic():
        chat = memory.chat_for(avito_id=avito_id, user_id=user_id, account=account)
        message = put(chat, text=text, author=author, status=Status.SENDING, **kind)
        if claim is not None:
            claim(message)
    _send_claimed(account, message, token, user_id, until)
    message.refresh_from_db()
    return message


def _settle_doubts(user_id: int, avito_id: str) -> None:
    """Where it is not known whether a reply has arrived, the chat is read before the next one goes out."""
    chats = Chat.objects.select_related("account__authorization").filter(avito_user_id=user_id, avito_id=avito_id)
    chat = chats.filter(Exists(Message.objects.filter(chat=OuterRef("pk"), delivery_status=Status.UNKNOWN))).first()
    if chat is not None and chat.account is not None:
        sync.read_chat(chat)


def _upload(account: Account, user_id: int, picture: Picture) -> str:
    """Bring a picture to Avito, which shows it to nobody; so doing it twice does no harm."""
    name = f"image.{picture.content_type.partition('/')[2]}"
    return sync.call(
        account, lambda client: client.messenger.upload_image(user_id, name, picture.data, picture.content_type)
    )


def _send_claimed(account: Account, message: Message, token: str, user_id: int, until: float) -> None:
    """The call for a row that is being sent, and once more with a fresh token if this one is refused."""
    try:
        try:
            _send(message, tokens.client_for(account, token, until=until), user_id)
        except avito.Unauthorized:
            fresh = tokens.access_token(account, rejected=token)
            until = _too_late_at()
            if _sending(message).update(sending_at=Now()) != 1:
                raise avito.TimedOut("renewing the token took so long that the message is being looked for") from None
            try:
                _send(message, tokens.client_for(account, fresh, until=until), user_id)
            except avito.Unauthorized:
                tokens.flag(account)
                raise
    except (AccountUnusable, avito.AvitoError) as error:
        maybe_done = isinstance(error, avito.AvitoError) and error.maybe_done
        status, wait = (Status.UNKNOWN, FIRST_LOOK) if maybe_done else (Status.FAILED, None)
        _settle(_sending(message), status, code=code_of(error), detail=str(error), retry_in=wait)
        raise


def look_again(message: Message) -> None:
    """Read the chat of an `unknown` reply: there it is, or it is missing once more."""
    now = database_now()
    lease = now + LOOK_LEASE
    doubt = Message.objects.filter(pk=message.pk, delivery_status=Status.UNKNOWN, attempts=message.attempts)
    if doubt.filter(retry_at__lte=Now()).update(retry_at=lease) != 1:
        return
    unknown = doubt.filter(retry_at=lease)  # so that a look which took too long judges nothing
    given_up = now - (message.sending_at or message.created_at) > GIVE_UP_AFTER
    if message.chat.account is None or given_up:
        _settle(unknown, Status.FAILED, code=OUTCOME_UNKNOWN, detail="Whether it arrived could not be found out.")
        ring_on_commit(tasks.deliver_next, message.chat_id)
        return
    try:
        was_read = sync.read_chat(message.chat)  # finding it there settles it
    except (avito.NotFound, avito.Forbidden) as error:
        _settle(unknown, Status.FAILED, code=OUTCOME_UNKNOWN, detail=str(error))
        ring_on_commit(tasks.deliver_next, message.chat_id)
        return
    except (avito.AvitoError, AccountUnusable) as error:
        log.warning("reply_look_failed", message_id=message.pk, error=type(error).__name__)
        was_read = False
    if not was_read:
        waited = now - (message.sending_at or now)
        unknown.update(retry_at=Now() + max(SECOND_LOOK, min(waited / 2, LOOK_PAUSE_MAX)))
        return
    if message.error_code in WITHOUT_ANSWER and now - (message.sending_at or now) < LATE_EFFECT:
        unknown.update(retry_at=Now() + SECOND_LOOK)
        return
    if message.absences + 1 < LOOKS_NEEDED:
        unknown.update(absences=message.absences + 1, retry_at=Now() + SECOND_LOOK)
        return
    log.info("reply_did_not_arrive", message_id=message.pk)
    _repeat_or_fail(message, unknown, code="not_delivered", detail="The chat was read twice and does not hold it.")


def presume_lost() -> int:
    """Replies whose worker died while sending: whether they arrived is unknown."""
    # Longer than one call to Avito can take: whoever still says "sending" after that has died on the way, or has been
    # stopped, and then finds out that it is too late.
    longest = timedelta(seconds=settings.AVITO_TIMEOUT_SECONDS) + SENDING_MARGIN
    stale = Message.objects.filter(delivery_status=Status.SENDING, sending_at__lt=Now() - longest)
    with transaction.atomic():
        rows = list(stale.select_for_update(skip_locked=True).order_by("id").values_list("pk", "chat"))
        lost = Message.objects.filter(pk__in=[pk for pk, _chat in rows])
        lost.update(delivery_status=Status.UNKNOWN, retry_at=Now(), error_code="worker_lost")
        events.emit("message.updated", *(pk for pk, _chat in rows))
        events.emit("chat.updated", *(chat for _pk, chat in rows))
    return len(rows)


def _too_late_at() -> float:
    """Until when a row that is claimed from now on may be sent: in time for its answer before it is presumed lost."""
    return time.monotonic() + SENDING_MARGIN.total_seconds()


def retry(message: Message) -> bool:
    """A person has a failed reply sent again. False when it is not failed."""
    failed = Message.objects.filter(pk=message.pk, delivery_status=Status.FAILED, avito_id=None)
    now = timezone.now()
    with transaction.atomic():
        chat = Chat.objects.select_for_update().get(pk=message.chat_id)
        changed = failed.update(
            delivery_status=Status.QUEUED,
            attempts=0,
            absences=0,
            sending_at=None,
            is_live=False,
            retry_at=None,
            error_code="",
            error_detail="",
            created_at=now,
        )
        if changed:
            chat.last_message_id, chat.last_message_at, chat.activity_at = message.pk, now, now
            chat.save(update_fields=["last_message", "last_message_at", "activity_at", "updated_at"])
            events.emit_all([("message.updated", message.pk), ("chat.updated", message.chat_id)])
            ring_on_commit(tasks.deliver, message.pk)
    return bool(changed)


def due_for_delivery() -> list[int]:
    """Queued replies whose turn it is."""
    return list(_whose_turn_it_is().order_by("id").values_list("pk", flat=True)[:SWEPT_AT_ONCE])


def due_for_a_look() -> list[int]:
    due = Message.objects.filter(delivery_status=Status.UNKNOWN, retry_at__lte=Now())
    return list(due.order_by("retry_at").values_list("pk", flat=True)[:SWEPT_AT_ONCE])


def next_of(chat_id: int) -> Message | None:
    return _whose_turn_it_is().filter(chat_id=chat_id).select_related("chat__account__authorization").first()


def _whose_turn_it_is() -> QuerySet[Message]:
    ahead = Message.objects.filter(chat=OuterRef("chat"), id__lt=OuterRef("id"), delivery_status__in=Message.UNSETTLED)
    due = Q(retry_at=None) | Q(retry_at__lte=Now())
    return Message.objects.filter(due, ~Exists(ahead), delivery_status=Status.QUEUED)


def _queued(message: Message) -> QuerySet[Message]:
    """The row, if it still waits for the attempt that its reader has in mind."""
    return Message.objects.filter(pk=message.pk, delivery_status=Status.QUEUED, attempts=message.attempts)


def _sending(message: Message) -> QuerySet[Message]:
    """The row, if our own attempt is still the one under way."""
    return Message.objects.filter(pk=message.pk, delivery_status=Status.SENDING, attempts=message.attempts)


def _claim(message: Message) -> bool:
    mine = _whose_turn_it_is().filter(pk=message.pk, attempts=message.attempts)
    claimed = mine.update(
        delivery_status=Status.SENDING, sending_at=Now(), retry_at=None, attempts=message.attempts + 1
    )
    message.attempts += claimed
    return claimed == 1


def _send(message: Message, client: avito.Client, user_id: int) -> None:
    """The call itself. Claimed beforehand; its success is stored at once."""
    account, chat_id = message.chat.account, message.chat.avito_id
    tokens.release_connection()
    try:
        if message.type == "image":
            sent = client.messenger.send_image(user_id, chat_id, str(message.content["image_id"]))
        else:
            sent = client.messenger.send_text(user_id, chat_id, message.text)
    except avito.SubscriptionRequired:
        if account is not None:
            news.messenger_unpaid(account)
        raise
    memory.mark_sent(message, avito_id=sent.id, content=sent.content)
    if account is not None:
        news.messenger_paid(account)
        if account.connection_status == Account.ConnectionStatus.NEEDS_RECONNECT:
            tokens.lift_flag(account)


def _judge(message: Message, held: QuerySet[Message], error: Exception) -> None:
    """A failure: perhaps done, surely not done and worth another try, or refused."""
    log.warning("reply_not_sent", message_id=message.pk, error=type(error).__name__)
    code, detail = code_of(error), str(error)
    if isinstance(error, avito.AvitoError) and error.maybe_done:
        _settle(held, Status.UNKNOWN, code=code, detail=detail, retry_in=FIRST_LOOK)
    elif isinstance(error, TRANSIENT):
        # A pause of Avito's, or of a resting proxy, uses up no attempt: nothing was tried.
        is_tried = error.retry_after_seconds is None
        _repeat_or_fail(
            message, held, code=code, detail=detail, wait_seconds=error.retry_after_seconds, is_tried=is_tried
        )
    elif _settle(held, Status.FAILED, code=code, detail=detail):
        ring_on_commit(tasks.deliver_next, message.chat_id)


def _repeat_or_fail(
    message: Message,
    held: QuerySet[Message],
    *,
    code: str,
    detail: str,
    wait_seconds: int | None = None,
    is_tried: bool = True,
) -> None:
    too_late = timezone.now() - message.created_at > GIVE_UP_AFTER
    if message.is_live or too_late or (is_tried and message.attempts >= ATTEMPTS_MAX):
        _settle(held, Status.FAILED, code=code, detail=detail)
        ring_on_commit(tasks.deliver_next, message.chat_id)
        return
    if wait_seconds is None:
        # Without an attempt of our own it was the token that failed: let it rest, and not all chats at once.
        wait_seconds = min(300, 2**message.attempts) if message.attempts else TOKEN_PAUSE_SECONDS
    pause = timedelta(seconds=wait_seconds * random.uniform(1, 1.3))  # noqa: S311  spreads load, hides nothing
    _settle(held, Status.QUEUED, code=code, detail=detail, retry_in=pause)


def _settle(
    held: QuerySet[Message], status: str, *, code: str = "", detail: str = "", retry_in: timedelta | None = None
) -> bool:
    """Write the outcome, if the row is still as its holder left it."""
    with transaction.atomic():
        row = held.select_for_update().first()
        if row is None:
            return False
        held.update(
            delivery_status=status,
            error_code=code,
            error_detail=detail[:500],
            absences=0,  # each doubt gets looks of its own
            retry_at=Now() + retry_in if retry_in else None,
        )
        events.emit_all([("message.updated", row.pk), ("chat.updated", row.chat_id)])
    return True
