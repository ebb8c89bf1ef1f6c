"""People and what they may touch.

User: somebody who logs in, or who came by an invite link. Role: annotator < researcher < admin.
Membership: one person's role on one object (a corpus, a model, a competition, a campaign).
ApiToken: a program's credential, with scopes; only its digest is kept.
"""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from accounts.querysets import SharedQuerySet


class Role(models.TextChoices):
    ANNOTATOR = "annotator", "Annotator: labels in campaigns they were invited to"
    RESEARCHER = "researcher", "Researcher: makes corpora, models, competitions and campaigns"
    ADMIN = "admin", "Admin: sees and changes everything"


class FalsifyUserManager(UserManager["User"]):
    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **extra: Any
    ) -> "User":
        return super().create_superuser(username, email, password, **{"role": Role.ADMIN, **extra})


class User(AbstractUser):
    """A person; people who come by an invite link without registering have no usable password."""

    role = models.CharField(max_length=16, choices=Role, default=Role.ANNOTATOR)
    display_name = models.CharField(max_length=80, blank=True)
    preferences = models.JSONField(default=dict, blank=True, help_text="Key bindings, theme, zoom of this person")

    objects: ClassVar[FalsifyUserManager] = FalsifyUserManager()

    @property
    def is_admin(self) -> bool:
        return self.is_active and (self.is_superuser or self.role == Role.ADMIN)

    @property
    def is_researcher(self) -> bool:
        return self.is_admin or (self.is_active and self.role == Role.RESEARCHER)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Who may enter the admin follows from the role, so that the two cannot disagree."""
        self.is_staff = self.is_superuser or self.role in {Role.RESEARCHER, Role.ADMIN}
        super().save(*args, **kwargs)

    def __str__(self) -> str:
        return self.display_name or self.username


class MembershipRole(models.TextChoices):
    VIEWER = "viewer", "Viewer: may look"
    EDITOR = "editor", "Editor: may change and launch"
    OWNER = "owner", "Owner: may also share and delete"


class Membership(models.Model):
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=MembershipRole)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    target = GenericForeignKey("content_type", "object_id")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "content_type", "object_id"], name="membership_once"),
        ]
        indexes = [models.Index(fields=["content_type", "object_id"])]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.content_type.model} {self.object_id}"


class Shared(models.Model):
    """Base of what researchers make and share: owner, visibility, memberships."""

    created_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    is_public = models.BooleanField(default=False, help_text="Every researcher may look at it")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SharedQuerySet.as_manager()

    class Meta:
        abstract = True


class Scope(models.TextChoices):
    READ = "read", "Read whatever its owner may see"
    ANNOTATE = "annotate", "Lease trials and post judgements as its owner"
    MANAGE = "manage", "Create, launch and change as its owner"


class ApiToken(models.Model):
    """A bearer token ``fals_<prefix>_<secret>``; shown once, kept as a SHA-256 digest."""

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
