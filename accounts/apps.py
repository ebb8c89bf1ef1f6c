from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Tell the API's schema about tokens."""
        from accounts import schema  # noqa: F401
