"""Conversations as we keep them, and the inbox of what Avito has delivered."""

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import Count, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Upper
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from avito.messenger import TEXT_MAX
from avito_accounts.models import Account
from chats import canned, shown

AVITO_ID_MAX = 255
TAG_LENGTH_MAX = 50


def _newest_first() -> tuple[Any, ...]:
    return F("activity_at").desc(), F("id").desc()


def _searched(field: str, name: str) -> GinIndex:
    """Serves `icontains` on the field: Django compares in upper case."""
    return GinIndex(OpClass(Upper(field), name="gin_trgm_ops"), name=name)


class ChatQuerySet(models.QuerySet["Chat"]):
    def at_avito(self, avito_id: str) -> "ChatQuerySet":
        """The chats with this id of Avito's: one, or two where two accounts of ours talk to each other."""
        return self.filter(avito_id=avito_id).order_by("-activity_at")


class Chat(models.Model):
    """One conversation of one account. Survives the account."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("active")
        CLOSED = "closed", _("closed")
        ARCHIVED = "archived", _("archived")

    account = models.ForeignKey(
        Account,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="chats",
        verbose_name=_("account"),
        db_index=False,
    )
    avito_user_id = models.BigIntegerField(
        default=0, help_text="Avito's number of the account, 0 when never known; stays when the account is deleted"
    )
    avito_id = models.CharField(_("chat id at Avito"), max_length=AVITO_ID_MAX)
    status = models.CharField(_("status"), max_length=8, choices=Status.choices, default=Status.ACTIVE)
    name = models.CharField(_("client"), max_length=255, blank=True, default="")
    phone = models.CharField(_("phone"), max_length=16, blank=True, default="")
    phone_at = models.DateTimeField(
        null=True, editable=False, help_text="the time of the message that it stands in; null: from elsewhere"
    )
    city = models.CharField(_("city"), max_length=100, blank=True, default="")
    item_id = models.BigIntegerField(_("item"), null=True, blank=True)
    item_title = models.CharField(_("item title"), max_length=500, blank=True, default="")
    item_url = models.CharField(_("item link"), max_length=1000, blank=True, default="")
    chat_type = models.CharField(_("chat type"), max_length=20, blank=True, default="")
    tags = ArrayField(models.CharField(max_length=TAG_LENGTH_MAX), default=list, blank=True, verbose_name=_("tags"))
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        verbose_name=_("assignee"),
        db_index=False,
    )
    entered = ArrayField(
        models.CharField(max_length=5),
        default=list,
        blank=True,
        db_default=Value([], output_field=ArrayField(models.CharField(max_length=5))),
        help_text="which of name, phone and city a person has written or emptied: what Avito tells leaves them alone",
    )
    city_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="when the account's listings were last read for this chat's city"
    )
    last_message = models.ForeignKey("Message", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    last_message_at = models.DateTimeField(_("last message"), null=True, blank=True)
    activity_at = models.DateTimeField(default=timezone.now, help_text="the last message's time, or when it was made")
    unread_count = models.PositiveIntegerField(_("unread"), default=0)
    messages_count = models.PositiveIntegerField(_("messages"), default=0)
    sync_due_at = models.DateTimeField(
        null=True, blank=True, help_text="when the chat shall be read at Avito; null: nothing to read"
    )
    sync_failures = models.PositiveSmallIntegerField(default=0)
    avito_updated_at = models.DateTimeField(null=True, blank=True, help_text="Avito's own time of the state we hold")
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    found: tuple[Any, ...] = ()
    """What `services.chats_for` has found, so that only a chat that has changed is saved."""

    objects = ChatQuerySet.as_manager()

    class Meta:
        verbose_name = _("chat")
        verbose_name_plural = _("chats")
        constraints = [
            models.UniqueConstraint(fields=["avito_user_id", "avito_id"], name="one_chat_per_account_and_avito_id")
        ]
        indexes = [
            models.Index(fields=["avito_id"], name="chat_by_avito_id"),
            models.Index(fields=["-activity_at", "-id"], name="chat_newest"),
            models.Index(fields=["account", "-activity_at", "-id"], name="chat_newest_of_account"),
            models.Index(fields=["sync_due_at"], condition=Q(sync_due_at__isnull=False), name="chat_sync_due"),
            models.Index(fields=["phone"], condition=~Q(phone=""), name="chat_by_phone"),
            # For each filter the order of the list itself, so that no page sorts what it does not show.
            models.Index(fields=["status", "-activity_at", "-id"], name="chat_newest_of_status"),
            models.Index(fields=["assignee", "-activity_at", "-id"], name="chat_newest_of_assignee"),
            # PostgreSQL does not take IS NULL for an equality: of nobody's chats it would sort all.
            models.Index(fields=["-activity_at", "-id"], condition=Q(assignee=None), name="chat_newest_of_nobody"),
            models.Index(fields=["-activity_at", "-id"], condition=Q(unread_count__gt=0), name="chat_newest_unread"),
            models.Index(fields=["-activity_at", "-id"], condition=Q(unread_count=0), name="chat_newest_read"),
            models.Index(Upper("city"), *_newest_first(), condition=~Q(city=""), name="chat_newest_of_city"),
            models.Index(fields=["-updated_at", "-id"], name="chat_last_changed"),
            models.Index(fields=["item_id"], condition=~Q(city=""), name="chat_city_of_item"),
            models.Index(
                fields=["account"],
                condition=Q(city="", item_id__isnull=False, city_asked_at=None),
                name="chat_without_city",
            ),
            GinIndex(fields=["tags"], name="chat_by_tag"),
            _searched("name", "chat_by_name"),
            _searched("item_title", "chat_by_item_title"),
            _searched("phone", "chat_by_part_of_phone"),
        ]

    def __str__(self) -> str:
        return self.name or self.avito_id


class Message(models.Model):
    """One message. Of an outgoing one that we deliver, `delivery_status` is the queue."""

    class Direction(models.TextChoices):
        INBOUND = "inbound", _("from the client")
        OUTBOUND = "outbound", _("from us")

    class DeliveryStatus(models.TextChoices):
        RECEIVED = "received", _("received")
        QUEUED = "queued", _("queued")
        SENDING = "sending", _("being sent")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")
        UNKNOWN = "unknown", _("unknown, being checked")

    UNSETTLED = (DeliveryStatus.QUEUED, DeliveryStatus.SENDING, DeliveryStatus.UNKNOWN)

    chat = models.ForeignKey(
        Chat, on_delete=models.CASCADE, related_name="messages", verbose_name=_("chat"), db_index=False
    )
    avito_user_id = models.BigIntegerField(default=0, help_text="the chat's own, so that ids are unique per account")
    avito_id = models.CharField(  # noqa: DJ001  NULLs are distinct, "" is not
        _("message id at Avito"), max_length=AVITO_ID_MAX, null=True, blank=True
    )
    direction = models.CharField(_("direction"), max_length=8, choices=Direction.choices)
    type = models.CharField(_("type"), max_length=50, default="text")
    text = models.TextField(_("text"), blank=True, default="")
    content = models.JSONField(_("content"), default=dict, blank=True)
    author_id = models.BigIntegerField(_("author's number"), null=True, blank=True)
    written_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, verbose_name=_("written here by")
    )
    delivery_status = models.CharField(
        _("delivery"), max_length=8, choices=DeliveryStatus.choices, default=DeliveryStatus.RECEIVED
    )
    error_code = models.CharField(_("error code"), max_length=50, blank=True, default="")
    error_detail = models.TextField(_("error"), blank=True, default="")
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    is_live = models.BooleanField(
        default=False, help_text="somebody waited for it and heard of a failure: it is not sent later by itself"
    )
    sending_at = models.DateTimeField(null=True, blank=True, help_text="when the last attempt began")
    retry_at = models.DateTimeField(null=True, blank=True, help_text="not before: the next attempt, or the next look")
    absences = models.PositiveSmallIntegerField(default=0, help_text="looks at Avito that did not find an unknown one")
    is_placeholder = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Avito's advertisement of a subscription in place of what was said; shown, and nothing else",
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    read_at = models.DateTimeField(_("read"), null=True, blank=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints = [
            models.UniqueConstraint(fields=["avito_user_id", "avito_id"], name="one_message_per_account_and_avito_id")
        ]
        indexes = [
            models.Index(fields=["chat", "-created_at", "-id"], name="message_newest_of_chat"),
            models.Index(
                fields=["chat", "id"],
                condition=Q(delivery_status__in=("queued", "sending", "unknown")),
                name="message_unsettled",
            ),
            models.Index(fields=["-id"], condition=Q(delivery_status="failed"), name="message_failed"),
            _searched("text", "message_by_text"),  # of a partial one, PostgreSQL would not use the statistics
        ]

    def __str__(self) -> str:
        return f"№ {self.pk}"  # never what it says: logs show this

    @property
    def words(self) -> str:
        """What people read, in their language where the words are ours. `text` is what was said."""
        return shown.words(self.type, self.text, self.content, is_placeholder=self.is_placeholder)

    @property
    def is_said(self) -> bool:
        """Are the words the author's, rather than a note of ours?"""
        return not self.is_placeholder and bool(shown.said_in(self.type, self.text, self.content))

    @property
    def picture_url(self) -> str:
        """Where its picture can be seen, in the largest size; "" if it has none."""
        return "" if self.type == "deleted" else shown.picture_url(self.content)


class CatchUpQuerySet(models.QuerySet["CatchUp"]):
    def saying_how_far(self) -> "CatchUpQuerySet":
        """Each row says `chats_left`: how many chats have been found and never been read so far."""
        return self.annotate(chats_left=_chats_left())

    def importing(self) -> "CatchUpQuerySet":
        """Those that have chats left, and they say how many."""
        return self.annotate(chats_left=_chats_left()).filter(chats_left__gt=0)


def _chats_left() -> Coalesce:
    unread = Chat.objects.filter(
        account=OuterRef("account"),
        sync_due_at__isnull=False,
        avito_updated_at=None,
        created_at__lte=OuterRef("found_at"),
    )
    count = unread.order_by().values("account").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(count), 0)


class CannedReplyQuerySet(models.QuerySet["CannedReply"]):
    def usable_by(self, user: Any) -> "CannedReplyQuerySet":
        """Everybody's and the user's own."""
        return self.filter(Q(owner=None) | Q(owner=user)).order_by("title", "id")


class CannedReply(models.Model):
    """An answer that is written once: shared by all, or one person's own. Its placeholders: see `chats.canned`."""

    title = models.CharField(_("title"), max_length=100)
    text = models.TextField(_("text"), max_length=TEXT_MAX, validators=[canned.validate])
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("whose it is"),
        help_text=_("Nobody's is shared by all."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = CannedReplyQuerySet.as_manager()

    class Meta:
        verbose_name = _("canned reply")
        verbose_name_plural = _("canned replies")

    def __str__(self) -> str:
        return self.title

    @property
    def is_shared(self) -> bool:
        return self.owner_id is None


class CatchUp(models.Model):
    """How far the chats of an account have been read: those it has had before, and webhooks that never came."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="catch_up")
    ran_at = models.DateTimeField(help_text="when the last run began")
    seen_until = models.DateTimeField(
        null=True, help_text="Avito's time of the newest chat that the last whole run has seen"
    )
    chats_found = models.PositiveIntegerField(
        _("chats found"), null=True, help_text="how many chats the account had when it was first read"
    )
    found_at = models.DateTimeField(null=True, help_text="when that was; chats that came later are no part of it")
    error_code = models.CharField(max_length=50, blank=True, default="", help_text="why the last run failed")
    error_detail = models.CharField(max_length=500, blank=True, default="")
    cities_at = models.DateTimeField(null=True, help_text="when listings were last read for the cities of chats")

    objects = CatchUpQuerySet.as_manager()

    def __str__(self) -> str:
        return f"account {self.account_id}"


class WebhookEvent(models.Model):
    """One delivery as it came: the raw bytes, and what became of them.

    Rows are written by `chats.intake` with SQL of its own. The same bytes twice are one row.
    """

    class Status(models.TextChoices):
        RECEIVED = "received", _("waiting")
        PROCESSED = "processed", _("processed")
        IGNORED = "ignored", _("ignored: nothing we handle")
        UNMATCHED = "unmatched", _("unmatched: no such account yet")
        DEAD = "dead", _("dead: cannot be used")

    OUTCOME = (
        *("type", "avito_user_id", "chat_avito_id", "message_avito_id", "note"),
        *("status", "processed_at", "retry_at", "deaths", "error"),
    )

    digest = models.BinaryField(max_length=32, unique=True, editable=False, help_text="SHA-256 of the body")
    body = models.BinaryField(editable=False)
    signature = models.CharField(_("signature"), max_length=200, blank=True, default="", editable=False)
    request_id = models.CharField(_("request"), max_length=64, blank=True, default="", editable=False)
    received_at = models.DateTimeField(_("received"), editable=False)
    lane = models.BigIntegerField(
        default=0, db_default=0, help_text="the account's number as far as it can be told unread; for a fair order only"
    )
    status = models.CharField(_("status"), max_length=9, choices=Status.choices, default=Status.RECEIVED)
    type = models.CharField(_("type"), max_length=100, blank=True, default="")
    avito_user_id = models.BigIntegerField(_("account's number"), null=True, blank=True)
    chat_avito_id = models.CharField(_("chat"), max_length=AVITO_ID_MAX, blank=True, default="")
    message_avito_id = models.CharField(_("message"), max_length=AVITO_ID_MAX, blank=True, default="")
    note = models.CharField(_("note"), max_length=200, blank=True, default="", help_text=_("what is peculiar about it"))
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    deaths = models.PositiveSmallIntegerField(
        default=0, help_text="claims in a row that never came to an end: the worker died of it, or with it"
    )
    retry_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(_("error"), blank=True, default="")
    processed_at = models.DateTimeField(_("processed"), null=True, blank=True)

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        indexes = [
            models.Index(fields=["lane", "id"], condition=Q(status="received", attempts=0), name="event_fresh_of_lane"),
            models.Index(fields=["retry_at", "id"], condition=Q(status="received", attempts__gt=0), name="event_tried"),
            models.Index(fields=["avito_user_id"], condition=Q(status="unmatched"), name="event_unmatched"),
            models.Index(fields=["status", "-id"], name="event_newest_of_status"),
            models.Index(fields=["chat_avito_id"], name="event_by_chat"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}"

    @property
    def raw(self) -> str:
        """The body as text; what is no UTF-8 shows as U+FFFD."""
        return bytes(self.body).decode("utf-8", "replace")

    def settle(self, status: "WebhookEvent.Status", **fields: Any) -> None:
        """Say what became of the event. Does not save."""
        outcome = {"status": status, "processed_at": timezone.now(), "retry_at": None, "deaths": 0, **fields}
        for name, value in outcome.items():
            setattr(self, name, value)
