from django.apps import AppConfig


class CompetitionConfig(AppConfig):
    name = "competition"
    verbose_name = "Competitions"

    def ready(self) -> None:
        from competition import receivers  # noqa: F401  # listens from here on
        from competition.reading import appearances
        from models_zoo.appearances import appearances_register

        appearances_register(appearances)
