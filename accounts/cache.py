"""The cache, whose absence is no error: what it held is read from the database, as after an eviction."""

import logging
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisAway

logger = logging.getLogger(__name__)


class LastingClient(RedisCacheClient):
    """Keeps its clients of the one server (they are safe to share between threads); Django makes one per call, which
    takes as long as half the asking."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._clients: dict[bool, Redis] = {}

    def get_client(self, key: Any = None, *, write: bool = False) -> Redis:
        if write not in self._clients:
            self._clients[write] = super().get_client(key, write=write)
        return self._clients[write]


class ForgivingRedisCache(RedisCache):
    """Redis, or, while Redis is away, a cache that holds nothing.

    Limits that count in the cache (log-ins, invite joins) do not bite while Redis is away; that is chosen over turning
    everybody out.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = LastingClient

    def _try(self, name: str, otherwise: Any, *args: Any, **options: Any) -> Any:
        try:
            return getattr(super(), name)(*args, **options)
        except RedisAway as error:
            logger.debug("the cache is away: %s", error)
            return otherwise

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self._try("get", default, key, default, version=version)

    def add(self, key: Any, value: Any, *args: Any, **options: Any) -> bool:
        return self._try("add", True, key, value, *args, **options)

    def set(self, key: Any, value: Any, *args: Any, **options: Any) -> None:
        self._try("set", None, key, value, *args, **options)

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self._try("delete", False, key, version=version)

    def touch(self, key: Any, *args: Any, **options: Any) -> bool:
        return self._try("touch", False, key, *args, **options)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        return self._try("has_key", False, key, version=version)

    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        return self._try("get_many", {}, keys, version=version)

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        return self._try("incr", delta, key, delta, version=version)
