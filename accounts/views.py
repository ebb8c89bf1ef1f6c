"""The account page (look, tokens) and sharing of objects."""

from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from accounts.errors import DomainError
from accounts.forms import MembershipForm, ThemeForm, TokenForm
from accounts.models import ApiToken, Membership, Shared, User
from accounts.permissions import require_view
from accounts.services import membership_remove, membership_set, preferences_update, token_create, token_revoke


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)


@login_required
def me(request: HttpRequest) -> HttpResponse:
    """A person's own page: look, password, second factor, API tokens."""
    user = _user(request)
    look = ThemeForm(
        request.POST if "theme" in request.POST else None,
        initial={"theme": user.preferences.get("theme", ""), "display_name": user.display_name},
    )
    token_form = TokenForm(request.POST if "scopes" in request.POST or "days" in request.POST else None)
    secret = None
    if look.is_bound and look.is_valid():
        preferences_update(user=user, theme=look.cleaned_data["theme"])
        User.objects.filter(pk=user.pk).update(display_name=look.cleaned_data["display_name"])
        messages.success(request, "Saved.")
        return redirect("accounts:me")
    if token_form.is_bound and token_form.is_valid():
        _, secret = token_create(user=user, by=user, **token_form.cleaned_data)
        token_form = TokenForm()
    tokens = ApiToken.objects.filter(user=user, revoked_at=None).order_by("-id")
    context = {"look": look, "token_form": token_form, "secret": secret, "tokens": tokens}
    return render(request, "accounts/me.html", context)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    token = get_object_or_404(ApiToken, pk=pk, user=_user(request))
    token_revoke(token=token, by=_user(request))
    messages.success(request, f'Token "{token.name}" is revoked.')
    return redirect("accounts:me")


def _target(kind: str, pk: int, user: User) -> models.Model:
    """The object named by ``app.model`` and its key, if this person may see it."""
    app, _, name = kind.partition(".")
    content_type = get_object_or_404(ContentType, app_label=app, model=name)
    model = content_type.model_class()
    if model is None or not issubclass(model, Shared):
        raise Http404(f"{kind} is not something that can be shared")
    target = get_object_or_404(model, pk=pk)
    require_view(user, target)
    return target


def _back(request: HttpRequest, fallback: str) -> str:
    address = request.POST.get("next") or request.GET.get("next") or ""
    return address if url_has_allowed_host_and_scheme(address, {request.get_host()}) else fallback


@login_required
def share(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """Who may see and change one object; its owners give and take roles."""
    user = _user(request)
    target = _target(kind, pk, user)
    form = MembershipForm(request.POST or None)
    here = reverse("accounts:share", args=[kind, pk])
    if form.is_bound and form.is_valid():
        try:
            membership = membership_set(target=target, by=user, **form.cleaned_data)
        except DomainError as error:
            form.add_error(error.field if error.field in form.fields else None, str(error))
        else:
            messages.success(request, f"{membership.user} is now {membership.role}.")
            return redirect(here)
    members = Membership.objects.filter(
        content_type=ContentType.objects.get_for_model(target), object_id=pk
    ).select_related("user")
    context = {"target": target, "form": form, "members": members, "back": _back(request, reverse("home"))}
    return render(request, "accounts/share.html", context)


@login_required
@require_POST
def unshare(request: HttpRequest, pk: int) -> HttpResponse:
    membership = get_object_or_404(Membership.objects.select_related("content_type", "user"), pk=pk)
    kind = f"{membership.content_type.app_label}.{membership.content_type.model}"
    membership_remove(membership=membership, by=_user(request))
    messages.success(request, f"{membership.user} has no role any more.")
    return redirect("accounts:share", kind=kind, pk=membership.object_id)
