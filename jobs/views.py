"""The jobs pages, and what keeps them live."""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import DomainError
from accounts.models import User
from jobs.channels import ALL_JOBS, job_channel, user_channel
from jobs.events import job_json, ticket_make
from jobs.models import Job, JobState
from jobs.services import job_cancel, job_retry

PAGE_SIZE = 30
MOST_FOLLOWED = 200


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


@login_required
def job_list(request: HttpRequest) -> HttpResponse:
    """Newest first, by state and owner."""
    user = _user(request)
    state, whose = request.GET.get("state", ""), request.GET.get("whose", "")
    jobs = Job.objects.visible_to(user).select_related("created_by").defer("payload", "checkpoint", "traceback")
    if state in JobState.values:
        jobs = jobs.filter(state=state)
    if whose == "mine":
        jobs = jobs.filter(created_by=user)
    page = Paginator(jobs, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": page, "state": state, "whose": whose, "states": JobState.choices}
    return render(request, "jobs/list.html", context | {"changeable": _changeable(user, [job.pk for job in page])})


@login_required
def detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = _user(request)
    job = get_object_or_404(Job.objects.visible_to(user).select_related("created_by"), pk=pk)
    result = [(name.replace("_", " ").capitalize(), value) for name, value in job.result.items() if _is_plain(value)]
    context = {"job": job, "result": result, "changeable": _changeable(user, [job.pk])}
    return render(request, "jobs/detail.html", context)


def _changeable(user: User, ids: list[UUID]) -> set[UUID]:
    return set(Job.objects.changeable_by(user).filter(pk__in=ids).values_list("pk", flat=True))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


@login_required
@require_GET
@never_cache
def state(request: HttpRequest, pk: UUID) -> JsonResponse:
    """One job as JSON, for whoever polls."""
    return JsonResponse(job_json(get_object_or_404(Job.objects.visible_to(_user(request)), pk=pk)))


@login_required
@require_GET
@never_cache
def live(request: HttpRequest) -> JsonResponse:
    """The state of the jobs ``?job=`` now, and the address of their live events.

    ``?list=1`` also follows jobs that are not on the page: all of them (admin) or one's own.
    """
    user = _user(request)
    try:
        jobs = list(Job.objects.visible_to(user).filter(pk__in=request.GET.getlist("job")[:MOST_FOLLOWED]))
    except ValidationError:
        return JsonResponse({"detail": "job must be the id of a job"}, status=400)
    channels = [job_channel(job.pk) for job in jobs]
    if request.GET.get("list"):
        channels.append(ALL_JOBS if user.is_admin else user_channel(user.pk))
    origin = f"{request.scheme}://{request.get_host()}"
    ticket = ticket_make(channels, origin)
    return JsonResponse(
        {"events": f"{_events_address(origin)}/events/?ticket={ticket}", "jobs": [job_json(job) for job in jobs]}
    )


def _events_address(origin: str) -> str:
    """Where live events are served: EVENTS_URL, or this host on EVENTS_PORT."""
    if settings.EVENTS_URL:
        return settings.EVENTS_URL.rstrip("/")
    parts = urlsplit(origin)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{settings.EVENTS_PORT}"


def _act(request: HttpRequest, pk: UUID, action: Callable[..., Job], done: str) -> HttpResponse:
    job = get_object_or_404(Job.objects.visible_to(_user(request)), pk=pk)
    try:
        action(job=job, by=_user(request))
        messages.success(request, f'"{job.title}" {done}.')
    except DomainError as error:
        messages.error(request, str(error))
    address = request.POST.get("next", "")
    return redirect(
        address if url_has_allowed_host_and_scheme(address, {request.get_host()}) else job.get_absolute_url()
    )


@login_required
@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _act(request, pk, job_cancel, "is being cancelled")


@login_required
@require_POST
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _act(request, pk, job_retry, "is queued again")
