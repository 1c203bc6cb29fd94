from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("config", "0002_each_process_has_a_row")]

    operations = [
        migrations.CreateModel(
            name="Routine",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(help_text="of the last run that has ended", null=True)),
                ("seconds", models.FloatField(help_text="that it took", null=True)),
                ("failed_at", models.DateTimeField(null=True)),
                (
                    "error",
                    models.CharField(
                        blank=True, default="", help_text="class and place; no message, no secret", max_length=200
                    ),
                ),
            ],
        ),
    ]
