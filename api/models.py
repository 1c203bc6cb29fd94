from django.conf import settings
from django.db import models


class ExternalIdentity(models.Model):
    """A person whom another service's tokens name: one user of its own per issuer and subject."""

    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="external_identity")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="one_user_per_external_subject")]

    def __str__(self) -> str:
        return f"{self.subject} @ {self.issuer or '-'}"
