from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """For the system's page and the list of messages: those that failed, among all that ever were."""

    atomic = False
    dependencies = [("chats", "0011_error_code_has_a_name")]

    operations = [
        AddIndexConcurrently(
            "message",
            models.Index(fields=["-id"], condition=models.Q(delivery_status="failed"), name="message_failed"),
        )
    ]
