from django.contrib.postgres.operations import TrigramExtension
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("chats", "0004_canned_replies")]

    operations = [
        TrigramExtension(),
    ]
