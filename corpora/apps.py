from django.apps import AppConfig


class CorporaConfig(AppConfig):
    name = "corpora"
    verbose_name = "Corpora"

    def ready(self) -> None:
        """Listen to the jobs that end."""
        from corpora import receivers  # noqa: F401
