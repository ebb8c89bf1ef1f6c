"""Pictures in media storage, named by their content: each is stored once, and a name never changes its meaning."""

import hashlib
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage

from corpora.files import written_whole


def store(folder: str, data: bytes, ending: str) -> str:
    """Keep the content under `<folder>/<first two digits>/<sha256>.<ending>`; the name. Safe to do twice, at once."""
    digest = hashlib.sha256(data).hexdigest()
    name = f"{folder}/{digest[:2]}/{digest}.{ending}"
    if default_storage.exists(name):
        return name
    if isinstance(default_storage._wrapped, FileSystemStorage):  # type: ignore[attr-defined]
        with written_whole(Path(default_storage.path(name))) as file:
            file.write(data)
        return name
    return default_storage.save(name, ContentFile(data))
