"""Where an import may read from: a researcher must not get at every file that the server can read."""

from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from accounts.errors import Denied, DomainError

if TYPE_CHECKING:
    from accounts.models import User


def inbox() -> Path:
    """The folder for files that are put on the server by hand."""
    return Path(settings.VAR_DIR) / "inbox"


def uploads() -> Path:
    return Path(settings.VAR_DIR) / "uploads"


def import_roots(by: "User") -> tuple[Path, ...] | None:
    """Folders that this person may import from; None = anywhere (admins)."""
    return None if by.is_admin else (inbox(), *(Path(root) for root in settings.IMPORT_ROOTS))


def require_location(location: str, by: "User", *, field: str = "location") -> Path:
    """The absolute path of a location this person may read from.

    Raises:
        DomainError: for an empty or relative path.
        Denied: outside the folders that this person may import from.
    """
    path = Path(location.strip()).expanduser()
    if not location.strip() or not path.is_absolute() or "\0" in location:
        raise DomainError(
            f'Location "{location}" is not an absolute path on the server, such as {inbox()}.', field=field
        )
    roots = import_roots(by)
    resolved = path.resolve()
    if roots is not None and not any(resolved.is_relative_to(root.resolve()) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise Denied(
            f'You may not import from "{location}": researchers import from {allowed}, or upload a file. '
            "An admin can import from anywhere or add a folder to IMPORT_ROOTS.",
            field=field,
        )
    return path
