"""Accounts that are to be kept online already have a first slot, spread over their interval."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("avito_accounts", "0006_accounts_have_slots")]

    operations = [
        migrations.RunSQL(
            "UPDATE avito_accounts_account"
            " SET online_due_at = now() + random() * make_interval(secs => online_keep_alive_interval)"
            " WHERE eternal_online_enabled",
            migrations.RunSQL.noop,
        )
    ]
