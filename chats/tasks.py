"""Doors for Celery, and the sweeps that every worker makes by itself.

Each task may come twice, late, or never: the rows say what there is to do.
"""

from celery import shared_task
from django.utils import timezone

from avito_accounts import limits
from avito_accounts import services as accounts
from chats import cities, inbox, replies, sync
from chats.models import Chat, Message
from doorbell import ring, ring_or_run

SYNC_PATIENCE_SECONDS = 1
SYNCED_AT_ONCE = 20


@shared_task(ignore_result=True)
def process_inbox() -> None:
    """Turn waiting webhook events into chats and messages."""
    inbox.process_waiting()


@shared_task(ignore_result=True)
def sync_chat(chat_id: int) -> None:
    chat = Chat.objects.select_related("account").filter(pk=chat_id).first()
    if chat is not None:
        with limits.background(SYNC_PATIENCE_SECONDS):
            sync.sync_chat(chat)


@shared_task(ignore_result=True)
def deliver(message_id: int) -> None:
    """Queued -> sent, failed or unknown; or queued again, for later."""
    message = _message(message_id)
    if message is not None:
        replies.deliver(message)


@shared_task(ignore_result=True)
def deliver_next(chat_id: int) -> None:
    """The reply that waited for the one before it."""
    message = replies.next_of(chat_id)
    if message is not None:
        replies.deliver(message)


@shared_task(ignore_result=True)
def look_again(message_id: int) -> None:
    """Unknown -> sent, or queued again when it surely did not arrive."""
    message = _message(message_id)
    if message is not None:
        replies.look_again(message)


@shared_task(ignore_result=True)
def reconcile(account_id: int) -> None:
    """Make good the webhooks that never came, for one account."""
    account = sync.accounts_to_reconcile().filter(pk=account_id).first()
    if account is None or not sync.claim_reconcile(account):
        return
    with limits.background(5):  # in Celery's own threads nobody waits long
        accounts.try_quietly(sync.reconcile, account)
        accounts.try_quietly(cities.find, account)


@shared_task(ignore_result=True)
def reconcile_due_accounts() -> None:
    for account_id in sync.accounts_to_reconcile().values_list("pk", flat=True):
        ring(reconcile, account_id)


def sweep_inbox() -> None:
    """What no doorbell announced: waiting events, and unmatched ones whose account has appeared."""
    inbox.match_again()
    inbox.process_waiting()


def sweep_replies() -> None:
    replies.presume_lost()
    ring_or_run(deliver, replies.due_for_delivery())
    ring_or_run(look_again, replies.due_for_a_look())


def sweep_chats() -> None:
    due = Chat.objects.filter(sync_due_at__lte=timezone.now(), account__isnull=False)
    # No more at once than are read until the next sweep: they share their threads with the replies to buyers.
    ring_or_run(sync_chat, due.order_by("sync_due_at").values_list("pk", flat=True)[:SYNCED_AT_ONCE])


def _message(message_id: int) -> Message | None:
    return Message.objects.select_related("chat__account__authorization").filter(pk=message_id).first()
