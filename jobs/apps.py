from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Find the handlers: the module ``jobs`` of every app."""
        autodiscover_modules("jobs")
