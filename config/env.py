"""The environment, read once at start into one typed object; a bad value stops the start with a clear message."""

import hashlib
import os
import secrets
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

SOCKET_PATH_BYTES = 100  # the kernel takes 107
BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """Every setting an operator may change. Names are the environment variables."""

    model_config = SettingsConfigDict(case_sensitive=True, extra="ignore")

    HOST: str = Field(default="127.0.0.1", description="Address the web server listens on")
    PORT: int = Field(default=8000, ge=1, le=65535, description="Port of pages and API")
    EVENTS_PORT: int | None = Field(
        default=None, ge=1, le=65535, description="Port of live events; PORT + 1 when unset"
    )
    EVENTS_URL: str | None = Field(
        default=None, description="Public address of live events, where a proxy stands in front"
    )
    PUBLIC_HOSTS: str = Field(
        default="", description="Comma-separated host names this site answers to, beside the local ones"
    )
    DEBUG: bool = False
    SECRET_KEY: str | None = Field(default=None, min_length=32, description="Kept in VAR_DIR/secret_key when unset")
    VAR_DIR: Path = Field(
        default=BASE_DIR / "var", description="Database, corpora, scores and media of the embedded default"
    )
    DATABASE_URL: str | None = Field(default=None, description="postgres://… ; SQLite under VAR_DIR when unset")
    REDIS_URL: str | None = Field(default=None, description="redis://… ; a private server under VAR_DIR when unset")
    STORAGE_URL: str | None = Field(
        default=None, description="s3://bucket/prefix for media (install django-storages[s3]); VAR_DIR/media when unset"
    )
    SECURE: bool = Field(default=False, description="Served over HTTPS: secure cookies and HSTS")
    TRUST_PROXY: bool = Field(default=False, description="Believe X-Forwarded-Proto and -For of the proxy in front")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    LOG_FORMAT: Literal["plain", "json"] = Field(default="plain", description="Lines for people or for programs")
    JOBS_HEARTBEAT_SECONDS: float = Field(default=3.0, gt=0)
    JOBS_STALE_SECONDS: float = Field(default=15.0, gt=0, description="A job whose last beat is older is taken over")
    UPLOAD_LIMIT_MB: int = Field(default=4096, ge=1, description="Largest upload accepted")
    PIXEL_LIMIT: int = Field(default=178_956_970, ge=1, description="Largest image decoded, in pixels")
    IMPORT_ROOTS: str = Field(
        default="", description="Comma-separated folders that researchers may import from, beside VAR_DIR/inbox"
    )

    @model_validator(mode="after")
    def _beats_before_stale(self) -> Self:
        if self.JOBS_STALE_SECONDS < 3 * self.JOBS_HEARTBEAT_SECONDS:
            raise ValueError(
                f"JOBS_STALE_SECONDS = {self.JOBS_STALE_SECONDS:g} must be at least three times "
                f"JOBS_HEARTBEAT_SECONDS = {self.JOBS_HEARTBEAT_SECONDS:g}, or live jobs are taken over"
            )
        return self

    @property
    def events_port(self) -> int:
        return self.EVENTS_PORT or self.PORT + 1

    @property
    def database_url(self) -> str:
        return self.DATABASE_URL or f"sqlite:///{quote(str(self.VAR_DIR / 'db.sqlite3'))}"

    @field_validator("VAR_DIR")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @property
    def redis_socket(self) -> Path:
        """The private server's socket: in VAR_DIR, or in the temporary folder where that name would be too long."""
        path = self.VAR_DIR / "run" / "redis.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(self.VAR_DIR)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"falsify-{os.getuid()}-{digest}" / "redis.sock"

    @property
    def redis_url(self) -> str:
        return self.REDIS_URL or f"unix://{quote(str(self.redis_socket))}"

    def secret_key(self) -> str:
        """The signing key: from the environment, else created once in ``VAR_DIR/secret_key`` (mode 0600)."""
        if self.SECRET_KEY:
            return self.SECRET_KEY
        path = self.VAR_DIR / "secret_key"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        return path.read_text().strip()


@cache
def environment() -> Environment:
    """Read and check the environment.

    Raises:
        SystemExit: with one line per bad variable.
    """
    try:
        return Environment()
    except ValidationError as error:
        lines = [f"  {_complaint(details)}" for details in error.errors()]
        sys.exit("Falsify cannot start, the environment has bad values:\n" + "\n".join(lines))


def _complaint(details: ErrorDetails) -> str:
    """``PORT = 'eighty': …``; values that may hold a secret are not repeated."""
    name = ".".join(map(str, details["loc"]))
    if not name:
        return details["msg"].removeprefix("Value error, ")
    value = "…" if name.endswith(("_KEY", "_URL")) else repr(details["input"])
    return f"{name} = {value}: {details['msg']}"
