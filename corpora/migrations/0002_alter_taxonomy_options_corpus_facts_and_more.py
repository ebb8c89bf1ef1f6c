from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("corpora", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="taxonomy",
            options={"ordering": ["-id"], "verbose_name_plural": "taxonomies"},
        ),
        migrations.AddField(
            model_name="corpus",
            name="facts",
            field=models.JSONField(
                default=dict,
                help_text='Of the import: "skipped" and "notes" (how many by kind), "unknown_labels", "images_per_second"',
            ),
        ),
        migrations.AddField(
            model_name="taxonomy",
            name="node_names",
            field=models.JSONField(default=dict, help_text="What the inner nodes are called, where known"),
        ),
    ]
