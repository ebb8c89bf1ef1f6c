from django.apps import AppConfig


class CompetitionConfig(AppConfig):
    name = "competition"
    verbose_name = "Competitions"

    def ready(self) -> None:
        from competition import receivers  # noqa: F401  # listens from here on
