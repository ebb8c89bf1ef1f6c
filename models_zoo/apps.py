from django.apps import AppConfig


class ModelsZooConfig(AppConfig):
    name = "models_zoo"
    verbose_name = "Model zoo"

    def ready(self) -> None:
        from models_zoo import receivers  # noqa: F401  # listens from here on
