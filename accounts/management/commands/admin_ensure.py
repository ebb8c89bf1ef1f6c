"""``manage.py admin_ensure``: makes the first admin account; prints its password once."""

import secrets
from typing import Any

from django.core.management.base import BaseCommand

from accounts.models import Role, User


class Command(BaseCommand):
    help = 'Make the account "admin" with a random password, which is printed once; does nothing when an admin exists.'

    def handle(self, *args: Any, **options: Any) -> None:
        if User.objects.filter(is_superuser=True).exists():
            return
        password = secrets.token_urlsafe(12)
        username = self._free_name()
        User.objects.create_superuser(username, password=password, role=Role.ADMIN)
        self.stdout.write(
            f"\nAn admin account was made. This password is shown only now:\n\n"
            f"  Name      {username}\n"
            f"  Password  {password}\n"
        )

    def _free_name(self) -> str:
        return "admin" if not User.objects.filter(username="admin").exists() else f"admin-{secrets.token_hex(2)}"
