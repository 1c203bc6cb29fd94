from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("avito_accounts", "0003_proxies_get_rows")]

    operations = [
        migrations.RemoveConstraint(
            model_name="account",
            name="proxy_has_host_and_port",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_checked_at",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_error_code",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_error_detail",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_host",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_latency_ms",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_login",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_password",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_port",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_status",
        ),
        migrations.RemoveField(
            model_name="account",
            name="proxy_type",
        ),
    ]
