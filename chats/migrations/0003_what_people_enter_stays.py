import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("chats", "0002_message_is_placeholder")]

    operations = [
        migrations.AddField(
            model_name="catchup",
            name="cities_at",
            field=models.DateTimeField(help_text="when listings were last read for the cities of chats", null=True),
        ),
        migrations.AddField(
            model_name="chat",
            name="city_asked_at",
            field=models.DateTimeField(
                blank=True, help_text="when the account's listings were last read for this chat's city", null=True
            ),
        ),
        migrations.AddField(
            model_name="chat",
            name="entered",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=5),
                blank=True,
                db_default=models.Value(
                    [],
                    output_field=django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=5), size=None
                    ),
                ),
                default=list,
                help_text="which of name, phone and city a person has written or emptied: what Avito tells leaves them alone",
                size=None,
            ),
        ),
    ]
