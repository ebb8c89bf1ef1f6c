from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = "Training"

    def ready(self) -> None:
        from models_zoo.lineage import deeds_register
        from training import receivers  # noqa: F401  # listens from here on
        from training.reading import deeds

        deeds_register(deeds)
