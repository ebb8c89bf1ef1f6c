"""Pages go on while Redis is away."""

from accounts.cache import ForgivingRedisCache


def test_a_cache_that_is_away_holds_nothing() -> None:
    cache = ForgivingRedisCache("unix:///nowhere/redis.sock", {})
    cache.set("a", 1)
    assert cache.get("a") is None
    assert cache.get("a", "fallback") == "fallback"
    assert cache.add("a", 1) is True
    assert cache.incr("a") == 1
    assert cache.get_many(["a", "b"]) == {}
    assert cache.delete("a") is False
    assert not cache.has_key("a")
