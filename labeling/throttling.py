"""How often one address may join campaigns by invite links."""

from django.core.cache import cache
from django.http import HttpRequest
from rest_framework import status

from accounts.errors import DomainError

JOINS_PER_HOUR = 240  # a class behind one router joins at once; somebody who guesses codes gets nowhere


class TooManyRequests(DomainError):
    status_code = status.HTTP_429_TOO_MANY_REQUESTS


def joins_count(request: HttpRequest) -> None:
    """Count an attempt to join from this address.

    Raises:
        TooManyRequests: more than ``JOINS_PER_HOUR`` in the hour since the first.
    """
    key = f"labeling:joins:{request.META.get('REMOTE_ADDR', '')}"
    cache.add(key, 0, timeout=3600)
    try:
        attempts = cache.incr(key)
    except ValueError:  # it expired between the two calls
        attempts = 1
    if attempts > JOINS_PER_HOUR:
        raise TooManyRequests("Too many people joined from your address within an hour: try again later.")
