"""Who may see and change what researchers make."""

import pytest
from django.test import Client

from accounts.errors import Denied, DomainError
from accounts.models import Membership, Role, User
from accounts.permissions import require_edit, require_researcher, require_view
from accounts.services import membership_remove, membership_set, preferences_update, user_create
from corpora.models import Taxonomy


@pytest.fixture
def taxonomy(researcher: User) -> Taxonomy:
    return Taxonomy.objects.create(
        name="digits", kind="flat", n_classes=2, classes=[], digest="0" * 64, created_by=researcher
    )


def visible(user: User) -> bool:
    return Taxonomy.objects.visible_to(user).exists()


def editable(user: User) -> bool:
    return Taxonomy.objects.editable_by(user).exists()


def test_private_things_are_seen_by_owner_and_admin_only(
    taxonomy: Taxonomy, researcher: User, other_researcher: User, annotator: User, admin: User
) -> None:
    assert visible(researcher)
    assert visible(admin)
    assert not visible(other_researcher)
    assert not visible(annotator)
    with pytest.raises(Denied, match="ask its owner to share"):
        require_view(other_researcher, taxonomy)


def test_public_things_are_seen_by_researchers_and_changed_by_nobody_else(
    taxonomy: Taxonomy, other_researcher: User, annotator: User
) -> None:
    Taxonomy.objects.update(is_public=True)
    assert visible(other_researcher)
    assert not visible(annotator)
    assert not editable(other_researcher)
    with pytest.raises(Denied, match="ask its owner to make you an editor"):
        require_edit(other_researcher, taxonomy, action="rename")


@pytest.mark.parametrize(("role", "may_edit"), [("viewer", False), ("editor", True), ("owner", True)])
def test_a_membership_gives_what_its_role_says(
    taxonomy: Taxonomy, researcher: User, other_researcher: User, role: str, may_edit: bool
) -> None:
    membership_set(target=taxonomy, username="other", role=role, by=researcher)
    assert visible(other_researcher)
    assert editable(other_researcher) == may_edit
    membership_remove(membership=Membership.objects.get(), by=researcher)
    assert not visible(other_researcher)


def test_only_owners_share(taxonomy: Taxonomy, researcher: User, other_researcher: User, annotator: User) -> None:
    membership_set(target=taxonomy, username="other", role="editor", by=researcher)
    with pytest.raises(Denied, match="Only an owner"):
        membership_set(target=taxonomy, username="annotator", role="viewer", by=other_researcher)
    with pytest.raises(DomainError, match='no active account "nobody"'):
        membership_set(target=taxonomy, username="nobody", role="viewer", by=researcher)
    with pytest.raises(DomainError, match="is no role"):
        membership_set(target=taxonomy, username="other", role="king", by=researcher)


def test_the_share_page(client: Client, taxonomy: Taxonomy, researcher: User, other_researcher: User) -> None:
    address = f"/account/share/corpora.taxonomy/{taxonomy.pk}/"
    client.force_login(other_researcher)
    assert client.get(address).status_code == 403
    client.force_login(researcher)
    assert "Shared with nobody yet" in client.get(address).content.decode()
    answer = client.post(address, {"username": "ghost", "role": "viewer"})
    assert "no active account" in answer.content.decode()
    client.post(address, {"username": "other", "role": "viewer"})
    assert visible(other_researcher)
    client.post(f"/account/memberships/{Membership.objects.get().pk}/remove/")
    assert not visible(other_researcher)


@pytest.mark.parametrize("kind", ["accounts.user", "auth.group", "no.such"])
def test_only_shared_kinds_can_be_shared(client: Client, admin: User, kind: str) -> None:
    client.force_login(admin)
    assert client.get(f"/account/share/{kind}/{admin.pk}/").status_code == 404


def test_roles(researcher: User, annotator: User, admin: User) -> None:
    require_researcher(researcher, action="import a corpus")
    require_researcher(admin, action="import a corpus")
    with pytest.raises(Denied, match="may not import a corpus: that takes the researcher role"):
        require_researcher(annotator, action="import a corpus")
    with pytest.raises(Denied):
        user_create(username="x", role=Role.ADMIN, by=researcher)
    made = user_create(username="x", role=Role.RESEARCHER, by=admin)
    assert made.is_staff
    made.role = Role.ANNOTATOR
    made.save()
    assert not made.is_staff
    with pytest.raises(DomainError, match="already an account"):
        user_create(username="x", role=Role.RESEARCHER, by=admin)


def test_an_inactive_admin_is_no_admin(admin: User) -> None:
    admin.is_active = False
    assert not admin.is_admin
    assert not admin.is_researcher


def test_preferences_merge_and_refuse_unknown_themes(annotator: User) -> None:
    preferences_update(user=annotator, keys={"yes": "KeyJ"})
    assert preferences_update(user=annotator, theme="dark").preferences == {"keys": {"yes": "KeyJ"}, "theme": "dark"}
    with pytest.raises(DomainError, match="is no theme"):
        preferences_update(user=annotator, theme="pink")
