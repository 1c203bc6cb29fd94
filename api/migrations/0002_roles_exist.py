from django.db import migrations

ROLES = ("admin", "director", "operator")


def make_roles(apps, schema_editor):
    group = apps.get_model("auth", "Group")
    for name in ROLES:
        group.objects.get_or_create(name=name)


def keep_roles(apps, schema_editor):
    """People may belong to the groups by now: going back leaves them."""


class Migration(migrations.Migration):
    dependencies = [("api", "0001_initial"), ("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(make_roles, keep_roles)]
