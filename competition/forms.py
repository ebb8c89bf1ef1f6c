"""Forms of competitions: they check types, the services check sense."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import QuerySet

from accounts.option_fields import option_fields
from competition import planning, services
from competition.kinds import KINDS
from competition.kinds.base import Kind
from competition.models import Competition, Entrant
from corpora.models import Corpus, Taxonomy
from models_zoo.models import Version
from training.models import Edition, LabelledSet

if TYPE_CHECKING:
    from accounts.models import User
    from competition.showing.base import Show

COMMON_SETTINGS = ("duplicate_distance", "control_size", "overlap", "judgement_budget", "seed")
"""Fields of ``Competition`` that every kind uses."""


def versions_visible(user: "User") -> QuerySet[Version]:
    """Versions that this person may enter, grouped by model."""
    return Version.objects.visible_to(user).for_use().for_lists().order_by("model__name", "id")


class VersionChoices(forms.ModelMultipleChoiceField):
    """Versions by name, with the label space and what keeps a version from competing."""

    def label_from_instance(self, version: Any) -> str:
        parts = [str(version)]
        if version.model.taxonomy:
            parts.append(str(version.model.taxonomy))
        elif version.corpus:
            parts.append(f"scores of {version.corpus}")
        state = "" if version.state == "verified" else f" ({version.get_state_display().lower()})"
        return " · ".join(parts) + state


class CompetitionForm(forms.ModelForm):
    """A new competition, or the settings of one that was not launched yet. ``form_of`` makes the form of a kind."""

    kind: Kind

    versions = VersionChoices(
        queryset=Version.objects.none(), required=False, label="Entrants", widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = Competition
        fields: Sequence[str] = ["name", "description", "corpus", *COMMON_SETTINGS, "is_public"]
        labels = {
            "duplicate_distance": "Near-duplicate distance",
            "overlap": "People per exhibit",
            "judgement_budget": "Budget of judgements",
            "is_public": "Every researcher may look at it",
        }
        widgets: dict[str, Any] = {"description": forms.Textarea(attrs={"rows": 2})}
        help_texts = {"is_public": ""}

    def __init__(self, *args: Any, user: "User", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "corpus" in self.fields:  # the admin shows it read-only after the launch
            corpora = Corpus.objects.visible_to(user).order_by("name")
            self.fields["corpus"].queryset = corpora  # type: ignore[attr-defined]
        fitting = versions_visible(user).filter(model__task=self.kind.task)
        self.fields["versions"].queryset = fitting  # type: ignore[attr-defined]
        self.order_fields(["name", "corpus", "versions", *self.setting_names(), "description", "is_public"])
        if "edition" in self.fields:
            choices = [(edition.pk, str(edition)) for edition in editions_visible(user, self.kind.task)]
            field = self.fields["edition"]
            self.fields["edition"] = forms.TypedChoiceField(
                label=field.label, help_text=field.help_text, choices=[("", "Choose one"), *choices], coerce=int
            )
        if self.instance.pk:
            entered = self.instance.entrants.values_list("version", flat=True)
            self.initial["versions"] = list(entered)
            self.initial |= self.instance.options

    @classmethod
    def setting_names(cls) -> list[str]:
        """Settings in the order in which they are shown: those of the kind first."""
        return [*cls.kind.settings, *cls.kind.Options.model_fields, *COMMON_SETTINGS]

    def _post_clean(self) -> None:
        """The model's own validators are the services' business: one set of messages."""

    def values(self) -> dict[str, Any]:
        """What the services take: cleaned values without the entrants, the kind's own options gathered."""
        names = [name for name in self.kind.Options.model_fields if name in self.fields]
        values = {name: value for name, value in self.cleaned_data.items() if name not in {"versions", *names}}
        return values | ({"options": {name: self.cleaned_data[name] for name in names}} if names else {})

    def preview(self) -> planning.Preview:
        """What the form amounts to so far; fields that are not filled in (well) have their defaults."""
        self.is_valid()
        found = services.competition_preview(plan=self.plan_of(self.cleaned_data))
        refused = [name for name in self.kind.Options.model_fields if name in self.errors]
        problems = [planning.Problem(name, str(self.errors[name][0])) for name in refused]
        return replace(found, problems=(*problems, *found.problems))

    def plan_of(self, cleaned: dict[str, Any]) -> planning.Plan:
        """The plan that cleaned values make."""
        said = {name: value for name, value in cleaned.items() if value is not None}
        versions = list(said.get("versions", []))
        return planning.Plan(
            kind=self.kind.name,
            options={name: cleaned[name] for name in self.kind.Options.model_fields if name in cleaned},
            corpus=said.get("corpus"),
            taxonomy=versions[0].model.taxonomy if versions else None,
            versions=versions,
            **{name: said[name] for name in planning.SETTING_NAMES if name in said},
        )

    def parts(self) -> list[tuple[str, list[forms.BoundField]]]:
        """The fields in the groups in which the page shows them."""
        parts = {
            "The question": ["corpus", "versions"],
            "What it is called": ["name", "description", "is_public"],
            "Settings": self.setting_names(),
        }
        return [(title, [self[name] for name in names]) for title, names in parts.items()]


def form_of(show: "Show", base: type[CompetitionForm] = CompetitionForm) -> type[CompetitionForm]:
    """The form of one kind: its own settings and options, and words that fit."""
    kind = show.kind
    meta = type(
        "Meta",
        (base.Meta,),
        {
            "fields": ["name", "description", "corpus", *kind.settings, *COMMON_SETTINGS, "is_public"],
            "labels": base.Meta.labels | show.labels,
            "help_texts": base.Meta.help_texts | show.helps,
        },
    )
    versions = deepcopy(base.base_fields["versions"])
    versions.help_text = show.entrants_help
    members = {"Meta": meta, "kind": kind, "versions": versions, **option_fields(kind.Options)}
    return type(f"{kind.name.title()}{base.__name__}", (base,), {"__module__": __name__, **members})


def editions_visible(user: "User", task: str) -> QuerySet[Edition]:
    """Editions of labelled sets for a task that this person may look at, newest first."""
    sets = LabelledSet.objects.visible_to(user).filter(task=task)
    return Edition.objects.filter(labelled_set__in=sets).select_related("labelled_set").order_by("-id")


class TroubleshootForm(forms.Form):
    """How one version is troubleshot: what it does not say has the default of its kind."""

    corpus = forms.ModelChoiceField(
        Corpus.objects.none(), help_text="Images to look for failures in; those that are labelled already are left out"
    )
    edition = forms.ModelChoiceField(
        Edition.objects.none(), label="Labelled set",
        help_text="What the version was trained on: its validation split sets the scale, its test split says what is "
        "forgotten",
    )  # fmt: skip
    preset = forms.ChoiceField(
        label="Training",
        choices=[("small", "Small: minutes on a CPU"), ("large", "Large: for a GPU")],
        help_text="How long it is fine-tuned",
    )
    budget = forms.IntegerField(
        min_value=4, max_value=10_000, initial=200, label="Images per round", help_text="Shown to people at most"
    )
    control_size = forms.IntegerField(
        min_value=0, max_value=10_000, initial=30, label="Random images beside them",
        help_text="The control arm: never trained on",
    )  # fmt: skip
    overlap = forms.IntegerField(min_value=1, max_value=100, initial=5, label="People per image")
    variants = forms.IntegerField(min_value=2, max_value=32, initial=8, label="Variants", help_text="Pruned copies")
    ensembles = forms.IntegerField(
        min_value=1,
        max_value=50,
        initial=5,
        label="Ensembles",
        help_text="Random mixtures of variants",
    )
    seed = forms.IntegerField(min_value=0, initial=0, label="Seed")

    def __init__(self, *args: Any, user: "User", version: Version, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.version = version
        corpora = Corpus.objects.visible_to(user).filter(state="ready").order_by("name")
        self.fields["corpus"].queryset = corpora  # type: ignore[attr-defined]
        editions = editions_visible(user, version.model.task)
        if version.model.taxonomy_id:
            editions = editions.filter(labelled_set__taxonomy=version.model.taxonomy_id)
        self.fields["edition"].queryset = editions  # type: ignore[attr-defined]
        self.has_editions = editions.exists()

    def settings(self) -> dict[str, Any]:
        """What ``troubleshoot`` and its plan take beside version, corpus and edition, of the fields that are right."""
        said = self.cleaned_data
        options: dict[str, Any] = {name: said[name] for name in ("budget", "variants", "ensembles") if name in said}
        if said.get("preset"):
            options |= {"finetune_preset": said["preset"]}
        common: dict[str, Any] = {name: said[name] for name in ("control_size", "overlap") if name in said}
        return {**common, "options": options}


class ListForm(forms.Form):
    """Which competitions a list shows."""

    q = forms.CharField(required=False, label="Name or description", widget=forms.TextInput(attrs={"type": "search"}))
    kind = forms.ChoiceField(
        required=False, label="Kind", choices=[("", "Any"), *((name, kind.title) for name, kind in KINDS.items())]
    )


class EntrantForm(forms.Form):
    """One more version for a competition."""

    version = forms.ModelChoiceField(queryset=Version.objects.none(), label="Version")

    def __init__(self, *args: Any, user: "User", competition: Competition, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entered = competition.entrants.values("version")
        task = KINDS[competition.kind].task
        fitting = versions_visible(user).filter(
            model__task=task, model__taxonomy=competition.taxonomy_id, state="verified"
        )
        self.fields["version"].queryset = fitting.exclude(pk__in=entered)  # type: ignore[attr-defined]


class GalleryForm(forms.Form):
    """Filters of the gallery of exhibits; ``entrant_fields``: those that choose an entrant."""

    entrant_fields: tuple[str, ...] = ()

    role = forms.ChoiceField(
        required=False,
        label="Show",
        choices=[("", "Selected"), ("reserve", "Reserve"), ("control", "Control arm")],
    )
    case = forms.ChoiceField(required=False, label="Outcome")
    round = forms.TypedChoiceField(required=False, label="Round", coerce=int, empty_value=None)

    def __init__(self, *args: Any, competition: Competition, cases: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entrants = competition.entrants.select_related("version__model")
        for name in self.entrant_fields:
            self.fields[name].queryset = entrants  # type: ignore[attr-defined]
        self.fields["case"].choices = [("", "Any"), *cases.items()]  # type: ignore[attr-defined]
        numbers = competition.rounds.order_by("number").values_list("number", flat=True)
        self.fields["round"].choices = [("", "All"), *((number, f"Round {number}") for number in numbers)]  # type: ignore[attr-defined]


class PairGalleryForm(GalleryForm):
    """Of duels in which neither of the two is first."""

    entrant_fields = ("first", "second")
    field_order = ["first", "second"]

    first = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="Model", empty_label="Any")
    second = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="against", empty_label="Any")


class AttackGalleryForm(GalleryForm):
    """Of duels in which one attacks the other, within levels."""

    entrant_fields = ("attacker", "defender")
    field_order = ["attacker", "defender", "level"]

    attacker = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="Attacker", empty_label="Any")
    defender = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="Defender", empty_label="Any")
    level = forms.TypedChoiceField(required=False, label="Level", coerce=int, empty_value=None)
    order = forms.ChoiceField(
        required=False,
        label="Order",
        choices=[("", "As selected"), ("strongest", "Strongest counterexamples first")],
    )

    def __init__(self, *args: Any, competition: Competition, **kwargs: Any) -> None:
        super().__init__(*args, competition=competition, **kwargs)
        levels = range(1, KINDS[competition.kind].options(competition).levels + 1)
        self.fields["level"].choices = [("", "Any"), *((level, str(level)) for level in levels)]  # type: ignore[attr-defined]
        self.fields["role"].choices = [("", "Selected"), ("control", "Control arm")]  # type: ignore[attr-defined]


class ExploreForm(forms.Form):
    """Which two versions of one task to hold against each other, over which corpus."""

    corpus = forms.ModelChoiceField(Corpus.objects.none())
    first = forms.ModelChoiceField(Version.objects.none(), label="Model")
    second = forms.ModelChoiceField(Version.objects.none(), label="against")

    def __init__(self, *args: Any, user: "User", task: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        corpora = Corpus.objects.visible_to(user).filter(state="ready").order_by("name")
        self.fields["corpus"].queryset = corpora  # type: ignore[attr-defined]
        for name in ("first", "second"):
            fitting = versions_visible(user).filter(state="verified", model__task=task)
            self.fields[name].queryset = fitting  # type: ignore[attr-defined]


class AttackFilterForm(forms.Form):
    """Filters of the pairs with which two quality models attack each other."""

    attacker = forms.TypedChoiceField(required=False, label="Attacker", coerce=int, empty_value=None)
    level = forms.TypedChoiceField(required=False, label="Level", coerce=int, empty_value=None)

    def __init__(self, *args: Any, pair: Sequence[Version], levels: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["attacker"].choices = [("", "Either"), *((at, str(version)) for at, version in enumerate(pair))]  # type: ignore[attr-defined]
        self.fields["level"].choices = [("", "Any"), *((level, str(level)) for level in range(1, levels + 1))]  # type: ignore[attr-defined]


class ExploreFilterForm(forms.Form):
    """Filters of the images on which two versions differ."""

    label = forms.TypedChoiceField(required=False, label="Class", coerce=int, empty_value=None)
    level = forms.TypedChoiceField(required=False, label="Distance", coerce=int, empty_value=None)
    least = forms.FloatField(required=False, label="Both at least this confident", min_value=0, max_value=1)

    def __init__(self, *args: Any, taxonomy: Taxonomy, levels: list[tuple[int, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = [(index, entry["name"]) for index, entry in enumerate(taxonomy.classes)]
        self.fields["label"].choices = [("", "Any"), *sorted(names, key=lambda each: each[1])]  # type: ignore[attr-defined]
        self.fields["level"].choices = [("", "Any"), *levels]  # type: ignore[attr-defined]
        self.fields["least"].widget.attrs.update({"step": "0.05"})
