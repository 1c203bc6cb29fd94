"""What the live messenger remembers by itself."""

from django.db import models
from django.utils import timezone

from avito_accounts.models import Account
from chats.models import AVITO_ID_MAX, Message


class SendKey(models.Model):
    """An `Idempotency-Key` and the message that it has sent, or may be sending.

    Made in one transaction with the message's row, before the call; how the call ended is the message's to tell.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    chat_avito_id = models.CharField(max_length=AVITO_ID_MAX)
    digest = models.BinaryField(max_length=32, help_text="SHA-256 of the key")
    body_digest = models.BinaryField(max_length=32, help_text="SHA-256 of what was to be sent")
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "chat_avito_id", "digest"], name="one_send_key_per_chat")
        ]

    def __str__(self) -> str:
        return f"key of message {self.message_id}"
