"""What the live messenger remembers by itself: keys of sends, signs of life."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from avito_accounts.models import Account
from chats.models import AVITO_ID_MAX, Message


class SendKey(models.Model):
    """An `Idempotency-Key` and the message that it has sent, or may be sending.

    Made in one transaction with the message's row, before the call; how the call ended is the message's to tell. What
    was answered then is kept: the message may be deleted meanwhile.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    chat_avito_id = models.CharField(max_length=AVITO_ID_MAX)
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the key")
    body_digest = models.BinaryField(max_length=32, help_text="SHA-256 of what was to be sent")
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+")
    answer = models.JSONField(null=True, help_text="the message as it was shown when it had arrived")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "chat_avito_id", "digest"], name="one_send_key_per_chat")
        ]

    def __str__(self) -> str:
        return f"key of message {self.message_id}"


class Presence(Account):
    """An account as those see it who look after eternal online. Only to look: changes are made to the account."""

    class Meta:
        proxy = True
        verbose_name = _("eternal online")
        verbose_name_plural = _("eternal online")


class PresenceAttempt(models.Model):
    """One attempt to keep an account online, and what Avito made of it. Kept for a few days."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="presence_attempts")
    at = models.DateTimeField()
    method = models.CharField(max_length=8, blank=True, default="", help_text="status, activity; empty: neither")
    code = models.CharField(max_length=50, blank=True, default="", help_text="why it failed; empty: it did not")
    detail = models.CharField(max_length=500, blank=True, default="")
    latency_ms = models.PositiveIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["account", "-at"], name="presence_of_account"),
            models.Index(fields=["at"], name="presence_age"),
        ]

    def __str__(self) -> str:
        return f"{self.at} of account {self.account_id}"

    @property
    def ok(self) -> bool:
        return not self.code
