from django.db import migrations

HOSTS = "host"


def make_hosts(apps, schema_editor):
    apps.get_model("auth", "Group").objects.get_or_create(name=HOSTS)


def keep_hosts(apps, schema_editor):
    """People may belong to the group by now: going back leaves them."""


class Migration(migrations.Migration):
    dependencies = [("api", "0002_roles_exist")]
    operations = [migrations.RunPython(make_hosts, keep_hosts)]
