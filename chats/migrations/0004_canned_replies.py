import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import chats.canned


class Migration(migrations.Migration):
    dependencies = [
        ("chats", "0003_what_people_enter_stays"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="CannedReply",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100, verbose_name="title")),
                ("text", models.TextField(max_length=1000, validators=[chats.canned.validate], verbose_name="text")),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        help_text="Nobody's is shared by all.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="whose it is",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
            ],
            options={
                "verbose_name": "canned reply",
                "verbose_name_plural": "canned replies",
            },
        ),
    ]
