"""Who may see and change which job."""

import pytest
from django.contrib.contenttypes.models import ContentType

from accounts.errors import Denied
from accounts.models import Membership, MembershipRole, User
from corpora.models import Corpus
from jobs.models import Job
from jobs.services import job_cancel, job_enqueue, job_retry

pytestmark = pytest.mark.django_db


@pytest.fixture
def corpus(researcher: User) -> Corpus:
    return Corpus.objects.create(name="flickr", created_by=researcher)


@pytest.fixture
def job(researcher: User, corpus: Corpus) -> Job:
    return job_enqueue(kind="jobs.check", title="Import", payload={}, by=researcher, subject=corpus)


def share(corpus: Corpus, user: User, role: MembershipRole) -> None:
    kind = ContentType.objects.get_for_model(corpus)
    Membership.objects.create(user=user, role=role, content_type=kind, object_id=corpus.pk)


def seen(user: User) -> bool:
    return Job.objects.visible_to(user).exists()


def changeable(user: User) -> bool:
    return Job.objects.changeable_by(user).exists()


def test_subject_names_model_and_key(job: Job, corpus: Corpus) -> None:
    assert job.subject == f"corpora.corpus:{corpus.pk}"
    assert list(Job.objects.about(corpus)) == [job]


def test_owner_and_admin_may_all(job: Job, researcher: User, admin: User) -> None:
    assert seen(researcher)
    assert changeable(researcher)
    assert seen(admin)
    assert changeable(admin)


def test_strangers_and_annotators_see_nothing(job: Job, other_researcher: User, annotator: User) -> None:
    for user in (other_researcher, annotator):
        assert not seen(user)
        with pytest.raises(Denied, match='You may not cancel "Import"'):
            job_cancel(job=job, by=user)
        with pytest.raises(Denied, match='You may not retry "Import"'):
            job_retry(job=job, by=user)


def test_researchers_see_jobs_about_public_objects_but_do_not_change_them(
    job: Job, corpus: Corpus, other_researcher: User, annotator: User
) -> None:
    Corpus.objects.filter(pk=corpus.pk).update(is_public=True)
    assert seen(other_researcher)
    assert not changeable(other_researcher)
    assert not seen(annotator)


@pytest.mark.parametrize(
    ("role", "may_change"),
    [(MembershipRole.VIEWER, False), (MembershipRole.EDITOR, True), (MembershipRole.OWNER, True)],
)
def test_members_of_the_object(
    job: Job, corpus: Corpus, other_researcher: User, role: MembershipRole, may_change: bool
) -> None:
    share(corpus, other_researcher, role)
    assert seen(other_researcher)
    assert changeable(other_researcher) is may_change


def test_membership_of_another_object_does_not_count(job: Job, researcher: User, other_researcher: User) -> None:
    another = Corpus.objects.create(name="another", created_by=researcher)
    share(another, other_researcher, MembershipRole.OWNER)
    assert not seen(other_researcher)


def test_inactive_admin_is_nobody(job: Job, admin: User) -> None:
    admin.is_active = False
    assert not seen(admin)
