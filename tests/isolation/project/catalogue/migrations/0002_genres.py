from django.db import migrations

NAMES = ["Crime", "Poetry", "Travel"]


def fill(apps, schema_editor):
    apps.get_model("catalogue", "Genre").objects.bulk_create(
        apps.get_model("catalogue", "Genre")(name=name) for name in NAMES
    )


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
