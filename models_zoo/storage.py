"""Where weights lie: ``VAR_DIR/weights/<sha256><suffix>``, written once, never changed."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from accounts.errors import DomainError
from models_zoo.content import format_require
from models_zoo.models import Version, VersionKind

BLOCK = 2**20
FOLDER = "weights"


@dataclass(frozen=True)
class StoredFile:
    """``file``: path under ``VAR_DIR``; ``name``: what the person called it."""

    file: str
    sha256: str
    size_bytes: int
    name: str


def file_store(source: Path | UploadedFile, *, kind: VersionKind | str) -> StoredFile:
    """Copy a file into the store under its content hash, after looking at what it is.

    Raises:
        DomainError: when it cannot be read, is over ``UPLOAD_LIMIT_BYTES``, or is not what ``kind`` takes.
    """
    folder = Path(settings.VAR_DIR) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(source.name or "file").name[-255:]
    incoming = folder / f".incoming-{uuid.uuid4().hex}"
    try:
        digest, size = _copy(source, incoming, name)
        target = folder / f"{digest}{format_require(incoming, kind=kind, name=name).suffix}"
        incoming.chmod(0o444)
        incoming.replace(target)
    finally:
        incoming.unlink(missing_ok=True)
    return StoredFile(f"{FOLDER}/{target.name}", digest, size, name)


def file_discard_unused(stored: StoredFile) -> None:
    """Remove a stored file that no version names."""
    if stored.file and not Version.objects.filter(file=stored.file).exists():
        (Path(settings.VAR_DIR) / stored.file).unlink(missing_ok=True)


def _copy(source: Path | UploadedFile, target: Path, name: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for block in _blocks(source):
            size += len(block)
            if size > settings.UPLOAD_LIMIT_BYTES:
                limit = settings.UPLOAD_LIMIT_BYTES / 2**20
                raise DomainError(
                    f'"{name}" is larger than {limit:,.0f} MB: an admin can raise UPLOAD_LIMIT_MB.', field="file"
                )
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def _blocks(source: Path | UploadedFile) -> Iterator[bytes]:
    if isinstance(source, UploadedFile):
        yield from source.chunks(BLOCK)
        return
    if not source.is_file():
        raise DomainError(f'There is no file "{source}" on the server: check the path.', field="path")
    try:
        with source.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
    except PermissionError:
        raise DomainError(f'The server may not read "{source}": change its permissions.', field="path") from None
