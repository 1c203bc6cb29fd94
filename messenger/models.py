"""What the messenger remembers beside the conversations."""

from django.db import models

from avito_accounts.models import Account


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
