from django.db import migrations, models


class Migration(migrations.Migration):
    """The table of the old heartbeats stays for one release: workers and a beat of the version before write to it
    until they are ended, and a beat that could not would ring no more.
    """

    dependencies = [("config", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="Heartbeat")]),
        migrations.CreateModel(
            name="Process",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("worker", "worker"), ("beat", "beat")], max_length=20)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.PositiveBigIntegerField()),
                ("started_at", models.DateTimeField()),
                ("beat_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "host", "pid"), name="one_row_per_process"),
                ],
            },
        ),
    ]
