import uuid

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import simple_history.models
from django.conf import settings
from django.db import migrations, models

import avito_accounts.fields
import avito_accounts.models


class Migration(migrations.Migration):
    dependencies = [
        ("avito_accounts", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="DailyStats",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("date", models.DateField(verbose_name="date")),
                ("views", models.PositiveIntegerField(blank=True, null=True, verbose_name="views")),
                ("contacts", models.PositiveIntegerField(blank=True, null=True, verbose_name="contacts")),
                ("favorites", models.PositiveIntegerField(blank=True, null=True, verbose_name="favourites")),
                ("ads_count", models.PositiveIntegerField(blank=True, null=True, verbose_name="active listings")),
                (
                    "balance_real",
                    models.DecimalField(blank=True, decimal_places=2, max_digits=14, null=True, verbose_name="balance"),
                ),
                (
                    "balance_bonus",
                    models.DecimalField(blank=True, decimal_places=2, max_digits=14, null=True, verbose_name="bonus"),
                ),
            ],
            options={
                "verbose_name": "figures of a day",
                "verbose_name_plural": "figures by day",
                "ordering": ["date"],
            },
        ),
        migrations.CreateModel(
            name="HistoricalAccount",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                ("name", models.CharField(db_index=True, max_length=120, verbose_name="name")),
                (
                    "avito_user_id",
                    models.BigIntegerField(
                        blank=True,
                        db_index=True,
                        help_text="The number of the profile at Avito. Filled in by itself when the account is connected.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(9223372036854775807),
                        ],
                        verbose_name="Avito's number",
                    ),
                ),
                ("eternal_online_enabled", models.BooleanField(default=False, verbose_name="eternal online")),
                (
                    "online_keep_alive_interval",
                    models.PositiveIntegerField(
                        default=300,
                        validators=[
                            django.core.validators.MinValueValidator(60),
                            django.core.validators.MaxValueValidator(3600),
                        ],
                        verbose_name="keep-alive interval, seconds",
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
            ],
            options={
                "verbose_name": "historical Avito account",
                "verbose_name_plural": "historical Avito accounts",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalProxy",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name="ID")),
                (
                    "type",
                    models.CharField(
                        choices=[("http", "HTTP"), ("https", "HTTPS"), ("socks4", "SOCKS4"), ("socks5", "SOCKS5")],
                        max_length=6,
                        verbose_name="type",
                    ),
                ),
                (
                    "host",
                    models.CharField(
                        max_length=253, validators=[avito_accounts.models.validate_proxy_host], verbose_name="host"
                    ),
                ),
                (
                    "port",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name="port",
                    ),
                ),
                (
                    "login",
                    models.CharField(
                        blank=True,
                        default="",
                        max_length=255,
                        validators=[avito_accounts.models.validate_proxy_login],
                        verbose_name="login",
                    ),
                ),
                ("note", models.CharField(blank=True, default="", max_length=200, verbose_name="note")),
                (
                    "is_kept",
                    models.BooleanField(
                        default=False,
                        help_text="Otherwise the proxy goes together with the last account that uses it.",
                        verbose_name="keep without accounts",
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                ("history_change_reason", models.CharField(max_length=100, null=True)),
                (
                    "history_type",
                    models.CharField(choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1),
                ),
            ],
            options={
                "verbose_name": "historical proxy",
                "verbose_name_plural": "historical proxies",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("check", "check of the connection"), ("sync", "reading of figures")],
                        max_length=5,
                        verbose_name="what",
                    ),
                ),
                ("due_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="due")),
                (
                    "claim",
                    models.PositiveIntegerField(default=0, help_text="grows with every worker that takes the job"),
                ),
                ("claimed_until", models.DateTimeField(null=True)),
                (
                    "deaths",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="workers that took the job and were not heard of again"
                    ),
                ),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished")),
                ("error_code", models.CharField(blank=True, default="", max_length=50, verbose_name="problem")),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Proxy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "type",
                    models.CharField(
                        choices=[("http", "HTTP"), ("https", "HTTPS"), ("socks4", "SOCKS4"), ("socks5", "SOCKS5")],
                        max_length=6,
                        verbose_name="type",
                    ),
                ),
                (
                    "host",
                    models.CharField(
                        max_length=253, validators=[avito_accounts.models.validate_proxy_host], verbose_name="host"
                    ),
                ),
                (
                    "port",
                    models.PositiveIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name="port",
                    ),
                ),
                (
                    "login",
                    models.CharField(
                        blank=True,
                        default="",
                        max_length=255,
                        validators=[avito_accounts.models.validate_proxy_login],
                        verbose_name="login",
                    ),
                ),
                (
                    "password",
                    avito_accounts.fields.EncryptedTextField(
                        blank=True,
                        default="",
                        validators=[avito_accounts.models.validate_proxy_login],
                        verbose_name="password",
                    ),
                ),
                ("note", models.CharField(blank=True, default="", max_length=200, verbose_name="note")),
                (
                    "is_kept",
                    models.BooleanField(
                        default=False,
                        help_text="Otherwise the proxy goes together with the last account that uses it.",
                        verbose_name="keep without accounts",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("not_checked", "not checked"), ("working", "working"), ("error", "error")],
                        default="not_checked",
                        max_length=11,
                        verbose_name="state",
                    ),
                ),
                ("error_reason", models.CharField(blank=True, default="", max_length=20)),
                ("checked_at", models.DateTimeField(blank=True, null=True, verbose_name="last check")),
                ("latency_ms", models.PositiveIntegerField(blank=True, null=True, verbose_name="latency, ms")),
                (
                    "failures",
                    models.PositiveSmallIntegerField(default=0, help_text="calls that failed one after the other"),
                ),
                (
                    "retry_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="the breaker is open: until then nothing is sent, then one probe",
                        null=True,
                    ),
                ),
                ("cipher_id", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="changed")),
            ],
            options={
                "verbose_name": "proxy",
                "verbose_name_plural": "proxies",
                "ordering": ["host", "port", "id"],
            },
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("check", "check of connections"), ("sync", "reading of figures")],
                        max_length=5,
                        verbose_name="what",
                    ),
                ),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="finished")),
            ],
            options={
                "verbose_name": "bulk operation",
                "verbose_name_plural": "bulk operations",
                "ordering": ["-id"],
            },
        ),
        migrations.AddField(
            model_name="account",
            name="sync_failures",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="the parts that the last synchronisation could not read, with the codes",
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="sync_tried_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="account",
            name="last_sync_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="figures read"),
        ),
        migrations.AddField(
            model_name="dailystats",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="daily_stats", to="avito_accounts.account"
            ),
        ),
        migrations.AddField(
            model_name="historicalaccount",
            name="history_user",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="historicalproxy",
            name="history_user",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="account",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="jobs", to="avito_accounts.account"
            ),
        ),
        migrations.AddIndex(
            model_name="proxy",
            index=models.Index(fields=["type", "host", "port", "login"], name="proxy_by_address"),
        ),
        migrations.AddConstraint(
            model_name="proxy",
            constraint=models.CheckConstraint(
                condition=models.Q(("port__range", (1, 65535))), name="proxy_port_in_range"
            ),
        ),
        migrations.AddField(
            model_name="historicalaccount",
            name="proxy",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="avito_accounts.proxy",
                verbose_name="proxy",
            ),
        ),
        migrations.AddField(
            model_name="account",
            name="proxy",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="accounts",
                to="avito_accounts.proxy",
                verbose_name="proxy",
            ),
        ),
        migrations.AddField(
            model_name="run",
            name="started_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="asked by",
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="run",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.CASCADE, related_name="jobs", to="avito_accounts.run"
            ),
        ),
        migrations.AddConstraint(
            model_name="dailystats",
            constraint=models.UniqueConstraint(fields=("account", "date"), name="one_row_per_account_and_day"),
        ),
        migrations.AddConstraint(
            model_name="run",
            constraint=models.UniqueConstraint(
                condition=models.Q(("finished_at", None)), fields=("kind",), name="one_run_of_a_kind_at_a_time"
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(condition=models.Q(("finished_at", None)), fields=["due_at"], name="job_waiting"),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(
                condition=models.Q(("finished_at", None)),
                fields=("account", "kind"),
                name="one_waiting_job_of_a_kind_per_account",
            ),
        ),
    ]
