"""Forms of competitions: they check types, the services check sense."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import QuerySet

from competition import planning
from competition.models import Competition, Entrant
from competition.reading import CASES
from corpora.models import Corpus, Taxonomy
from models_zoo.models import Version

if TYPE_CHECKING:
    from accounts.models import User

SETTINGS = (
    "k", "reserve", "threshold", "per_class_cap", "duplicate_distance", "control_size", "overlap", "judgement_budget",
    "seed",
)  # fmt: skip
PARTS = {"name": ("name", "description", "is_public"), "question": ("corpus", "versions"), "settings": SETTINGS}


def versions_visible(user: "User") -> QuerySet[Version]:
    """Versions that this person may enter, grouped by model."""
    return Version.objects.visible_to(user).for_lists().order_by("model__name", "id")


class VersionChoices(forms.ModelMultipleChoiceField):
    """Versions by name, with the label space and what keeps a version from competing."""

    def label_from_instance(self, version: Any) -> str:
        state = "" if version.state == "verified" else f" ({version.get_state_display().lower()})"
        return f"{version} · {version.model.taxonomy}{state}"


class CompetitionForm(forms.ModelForm):
    """A new competition, or the settings of one that was not launched yet."""

    versions = VersionChoices(
        queryset=Version.objects.none(),
        required=False,
        label="Entrants",
        help_text="Two or more versions that share a label space. More can be added after the launch.",
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = Competition
        fields = ["name", "description", "corpus", *SETTINGS, "is_public"]
        labels = {
            "k": "Images per pair (k)",
            "reserve": "Reserve per pair",
            "threshold": "Confidence threshold",
            "per_class_cap": "Cap per predicted class",
            "duplicate_distance": "Near-duplicate distance",
            "control_size": "Control images",
            "overlap": "People per exhibit",
            "judgement_budget": "Budget of judgements",
            "is_public": "Every researcher may look at it",
        }
        widgets = {"description": forms.Textarea(attrs={"rows": 2})}
        help_texts = {
            "is_public": "",
            "k": "On which the two disagree most; 30 is usual, rankings are stable from about 15",
            "reserve": "Take the place of images that people cannot label",
            "overlap": "5 is usual; an odd number ties less",
            "seed": "Of the control images, the order of questions and the intervals",
        }

    def __init__(self, *args: Any, user: "User", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "corpus" in self.fields:  # the admin shows it read-only after the launch
            corpora = Corpus.objects.visible_to(user).order_by("name")
            self.fields["corpus"].queryset = corpora  # type: ignore[attr-defined]
        self.fields["versions"].queryset = versions_visible(user)  # type: ignore[attr-defined]
        self.order_fields(["name", "corpus", "versions", *SETTINGS, "description", "is_public"])
        if self.instance.pk:
            entered = self.instance.entrants.values_list("version", flat=True)
            self.initial["versions"] = list(entered)

    def _post_clean(self) -> None:
        """The model's own validators are the services' business: one set of messages."""

    def plan(self) -> planning.Plan:
        """What the form says so far, for the preview; fields that are not filled in have their defaults."""
        self.is_valid()
        return self.plan_of(self.cleaned_data)

    def plan_of(self, cleaned: dict[str, Any]) -> planning.Plan:
        """The plan that cleaned values make."""
        said = {name: value for name, value in cleaned.items() if value is not None}
        versions = list(said.get("versions", []))
        return planning.Plan(
            corpus=said.get("corpus"),
            taxonomy=versions[0].model.taxonomy if versions else None,
            versions=versions,
            **{name: said[name] for name in planning.SETTING_NAMES if name in said},
        )

    def parts(self) -> list[tuple[str, list[forms.BoundField]]]:
        """The fields in the groups in which the page shows them."""
        titles = {"question": "The question", "name": "What it is called", "settings": "Settings"}
        return [(title, [self[name] for name in PARTS[part]]) for part, title in titles.items()]


class EntrantForm(forms.Form):
    """One more version for a competition."""

    version = forms.ModelChoiceField(queryset=Version.objects.none(), label="Version")

    def __init__(self, *args: Any, user: "User", competition: Competition, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entered = competition.entrants.values("version")
        fitting = versions_visible(user).filter(model__taxonomy=competition.taxonomy_id, state="verified")
        self.fields["version"].queryset = fitting.exclude(pk__in=entered)  # type: ignore[attr-defined]


class GalleryForm(forms.Form):
    """Filters of the gallery of exhibits."""

    first = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="Model", empty_label="Any")
    second = forms.ModelChoiceField(Entrant.objects.none(), required=False, label="against", empty_label="Any")
    role = forms.ChoiceField(
        required=False,
        label="Show",
        choices=[("", "Selected"), ("reserve", "Reserve"), ("control", "Control arm")],
    )
    case = forms.ChoiceField(required=False, label="Outcome", choices=[("", "Any"), *CASES.items()])
    round = forms.TypedChoiceField(required=False, label="Round", coerce=int, empty_value=None)

    def __init__(self, *args: Any, competition: Competition, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        entrants = competition.entrants.select_related("version__model")
        for name in ("first", "second"):
            self.fields[name].queryset = entrants  # type: ignore[attr-defined]
        numbers = competition.rounds.order_by("number").values_list("number", flat=True)
        self.fields["round"].choices = [("", "All"), *((number, f"Round {number}") for number in numbers)]  # type: ignore[attr-defined]


class ExploreForm(forms.Form):
    """Which two versions to hold against each other, over which corpus."""

    corpus = forms.ModelChoiceField(Corpus.objects.none())
    first = forms.ModelChoiceField(Version.objects.none(), label="Model")
    second = forms.ModelChoiceField(Version.objects.none(), label="against")

    def __init__(self, *args: Any, user: "User", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        corpora = Corpus.objects.visible_to(user).filter(state="ready").order_by("name")
        self.fields["corpus"].queryset = corpora  # type: ignore[attr-defined]
        for name in ("first", "second"):
            self.fields[name].queryset = versions_visible(user).filter(state="verified")  # type: ignore[attr-defined]


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
