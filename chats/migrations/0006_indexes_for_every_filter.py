import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False  # chats go on being written while the indexes are made

    dependencies = [
        ("avito_accounts", "0007_enabled_accounts_get_slots"),
        ("chats", "0005_trigrams"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(fields=["status", "-activity_at", "-id"], name="chat_newest_of_status"),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(fields=["assignee", "-activity_at", "-id"], name="chat_newest_of_assignee"),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("assignee", None)), fields=["-activity_at", "-id"], name="chat_newest_of_nobody"
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("unread_count__gt", 0)), fields=["-activity_at", "-id"], name="chat_newest_unread"
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("unread_count", 0)), fields=["-activity_at", "-id"], name="chat_newest_read"
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                django.db.models.functions.text.Upper("city"),
                models.OrderBy(models.F("activity_at"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("city", ""), _negated=True),
                name="chat_newest_of_city",
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(fields=["-updated_at", "-id"], name="chat_last_changed"),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("city", ""), _negated=True), fields=["item_id"], name="chat_city_of_item"
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("city", ""), ("city_asked_at", None), ("item_id__isnull", False)),
                fields=["account"],
                name="chat_without_city",
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=django.contrib.postgres.indexes.GinIndex(fields=["tags"], name="chat_by_tag"),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass(
                    django.db.models.functions.text.Upper("name"), name="gin_trgm_ops"
                ),
                name="chat_by_name",
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass(
                    django.db.models.functions.text.Upper("item_title"), name="gin_trgm_ops"
                ),
                name="chat_by_item_title",
            ),
        ),
        AddIndexConcurrently(
            model_name="chat",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass(
                    django.db.models.functions.text.Upper("phone"), name="gin_trgm_ops"
                ),
                name="chat_by_part_of_phone",
            ),
        ),
        AddIndexConcurrently(
            model_name="message",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.indexes.OpClass(
                    django.db.models.functions.text.Upper("text"), name="gin_trgm_ops"
                ),
                name="message_by_text",
            ),
        ),
        migrations.AlterField(
            model_name="chat",
            name="account",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="chats",
                to="avito_accounts.account",
                verbose_name="account",
            ),
        ),
        migrations.AlterField(
            model_name="chat",
            name="assignee",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                to=settings.AUTH_USER_MODEL,
                verbose_name="assignee",
            ),
        ),
        migrations.AlterField(
            model_name="message",
            name="chat",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="messages",
                to="chats.chat",
                verbose_name="chat",
            ),
        ),
        # How common a word is decides how it is looked for, and a few hundred samples do not tell.
        migrations.RunSQL(
            "ALTER INDEX message_by_text ALTER COLUMN 1 SET STATISTICS 2000",
            "ALTER INDEX message_by_text ALTER COLUMN 1 SET STATISTICS -1",
        ),
    ]
