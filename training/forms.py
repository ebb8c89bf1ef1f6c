"""Forms of runs and labelled sets: they check types, the services check sense."""

from collections.abc import Iterable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import QuerySet

from accounts.errors import DomainError
from accounts.option_fields import SequenceField, option_fields, shown_value
from corpora.models import Corpus, Taxonomy
from labeling.models import Campaign
from models_zoo.models import Purpose, Scores, Task, Version, VersionKind, VersionState
from training import offers
from training.comparing import AXES, MEASURES, Line, Measure, editions_measured, lines_of, over_seeds, runs_measured
from training.engine.registry import InputSlot, Method, methods
from training.models import Edition, LabelledSet, Run
from training.reading import default_preset, editions_visible, preset_values
from training.sets import FRACTIONS

if TYPE_CHECKING:
    from accounts.models import User

CONFIG, INPUT = "config_", "input_"
DEVICES = ["auto", "cpu", "cuda"]
MOST_SEED = 2**63 - 1


def versions_for(slot: InputSlot, user: "User") -> QuerySet[Version]:
    """Versions that may take this part in a run: networks with weights that the person may see, those for use first."""
    found = Version.objects.visible_to(user).for_lists().filter(kind=VersionKind.TORCH, state=VersionState.VERIFIED)
    if slot.task:
        found = found.filter(model__task=slot.task)
    if not slot.many:
        found = found.filter(purpose=Purpose.USE)
    return found.order_by("model__name", "id")


def editions_for(of: Method, user: "User") -> QuerySet[Edition]:
    """Editions whose labels the method can learn from, of sets that the person may see; the newest of a set first."""
    found = editions_visible(user)
    return found.filter(labelled_set__task__in=tasks_of(of)).order_by("labelled_set__name", "-number")


def tasks_of(of: Method) -> list[str]:
    """The tasks of labelled sets that a method takes; none where it takes no data."""
    if of.card.data == "any":
        return [str(task) for task in Task]
    return [of.card.data] if of.card.data else []


RESOURCES: dict[str, forms.Field] = {
    "precision": forms.ChoiceField(
        required=False,
        choices=[("", "By what the device can do"), ("fp32", "fp32"), ("bf16", "bf16"), ("fp16", "fp16")],
    ),
    "on_device_loss": forms.ChoiceField(
        required=False,
        label="When a GPU disappears",
        choices=[("", "Fail, resumable"), ("cpu", "Go on on the CPU from the last checkpoint")],
    ),
    "time_limit_seconds": forms.FloatField(
        required=False, min_value=0, label="Time limit", help_text="Seconds of one start; it can go on afterwards"
    ),
    "memory_limit_gb": forms.FloatField(
        required=False, min_value=0, label="Memory limit", help_text="GB; beyond it the run stops, resumable"
    ),
}
"""Fields of ``training.engine.devices.Resources`` that the form offers beside the device."""


class EditionChoice(forms.ModelChoiceField):
    """An edition by its set, number and size."""

    def label_from_instance(self, edition: Any) -> str:
        return f"{edition} ({edition.n_rows:,} rows)"


def _version_label(version: Version) -> str:
    note = "" if version.purpose == Purpose.USE else f" · {version.get_purpose_display()}"
    return f"{version} · {version.architecture}{note}"


class VersionChoice(forms.ModelChoiceField):
    """One version, with its architecture."""

    def label_from_instance(self, version: Any) -> str:
        return _version_label(version)


class VersionChoices(forms.ModelMultipleChoiceField):
    """Several versions, with their architectures."""

    def label_from_instance(self, version: Any) -> str:
        return _version_label(version)


class RunForm(forms.Form):
    """A new run of a method: made from its card and its config. ``preset``: whose values the form is filled with."""

    name = forms.CharField(max_length=160, required=False, help_text="Left empty: the method, and what goes in")

    def __init__(self, *args: Any, method: Method, user: "User", preset: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method, self.preset = method, preset or default_preset(method)
        fields: dict[str, forms.Field] = {}
        for slot in method.card.inputs:
            fields[INPUT + slot.role] = _input_field(slot, user)
        if method.card.data:
            fields["edition"] = EditionChoice(
                editions_for(method, user),
                label="Labelled set",
                empty_label="Choose an edition",
                help_text="What it learns from, and is measured on",
            )
        fields |= self._config_fields()
        fields["seed"] = forms.IntegerField(
            min_value=0, max_value=MOST_SEED, initial=0, help_text="The same seed on the same device: the same result"
        )
        fields["device"] = forms.CharField(
            max_length=20,
            initial="auto",
            help_text="auto: a GPU where there is one; cpu; cuda; one of several GPUs, such as cuda:1",
            widget=forms.TextInput(attrs={"list": "devices"}),
        )
        self.fields |= {**fields, **deepcopy(RESOURCES)}

    def _config_fields(self) -> dict[str, forms.Field]:
        """The config's fields with the preset's values; each knows what the preset says, to mark what differs."""
        usual = preset_values(self.method, self.preset)
        fields = {}
        for name, field in option_fields(self.method.config).items():
            field.initial = usual[name]
            field.widget.attrs["data-preset"] = _as_typed(field, usual[name])
            fields[CONFIG + name] = field
        return fields

    def config_values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[CONFIG + name] for name in self.method.config.model_fields}

    def service_arguments(self) -> dict[str, Any]:
        """What ``run_create`` takes."""
        cleaned = self.cleaned_data
        given = {slot.role: cleaned[INPUT + slot.role] for slot in self.method.card.inputs}
        inputs = {role: value if isinstance(value, Version) else list(value) for role, value in given.items() if value}
        return {
            "method": self.method.card.name,
            "name": cleaned["name"].strip(),
            "preset": self.preset,
            "config": self.config_values(),
            "inputs": inputs,
            "edition": cleaned.get("edition"),
            "seed": cleaned["seed"],
            "device": cleaned["device"],
            "resources": {name: cleaned[name] for name in RESOURCES if cleaned[name] not in (None, "")},
        }

    def blame(self, error: DomainError) -> None:
        """Show a service's error at the field it names."""
        named = (error.field or "").split(".")[-1]
        candidates: Iterable[str] = (named, CONFIG + named, INPUT + named)
        self.add_error(next((name for name in candidates if name in self.fields), None), str(error))

    def config_lines(self) -> list[dict[str, Any]]:
        """Fields of the config with what the preset says."""
        usual = preset_values(self.method, self.preset)
        lines = []
        for name, info in self.method.config.model_fields.items():
            field = self[CONFIG + name]
            lines.append({"field": field, "preset": shown_value(info, usual[name])})
        return lines

    def resource_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in RESOURCES]

    def input_fields(self) -> list[forms.BoundField]:
        names = [name for name in self.fields if name.startswith(INPUT)]
        return [self[name] for name in names]

    @staticmethod
    def initial_of(run: Run) -> dict[str, Any]:
        """The values of a run, to start another one like it."""
        inputs: dict[str, list[int]] = {}
        for entry in run.inputs.all():
            inputs.setdefault(INPUT + entry.role, []).append(entry.version_id)
        values = {name: ids if len(ids) > 1 else ids[0] for name, ids in inputs.items()}
        config = {CONFIG + name: value for name, value in run.config.items()}
        return {**values, **config, "edition": run.edition_id, "seed": run.seed, "device": run.device, **run.resources}


def _input_field(slot: InputSlot, user: "User") -> forms.Field:
    common: dict[str, Any] = {"label": slot.title, "help_text": slot.help, "required": slot.required}
    if slot.many:
        return VersionChoices(versions_for(slot, user), widget=forms.CheckboxSelectMultiple, **common)
    empty = "Choose a version" if slot.required else "None"
    return VersionChoice(versions_for(slot, user), empty_label=empty, **common)


def _as_typed(field: forms.Field, value: Any) -> str:
    """A value as the field's box holds it."""
    if isinstance(value, bool):
        return "true" if value else ""
    return "" if value is None else str(field.prepare_value(value))


class RunFilterForm(forms.Form):
    """Which runs a list shows."""

    q = forms.CharField(required=False, label="Name", widget=forms.TextInput(attrs={"type": "search"}))
    method = forms.ChoiceField(required=False, label="Method")
    state = forms.ChoiceField(
        required=False,
        label="State",
        choices=[
            ("", "Any"), ("live", "Running or queued"), ("succeeded", "Succeeded"), ("failed", "Failed"),
            ("cancelled", "Cancelled"),
        ],
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = [(name, each.card.title) for name, each in methods().items()]
        self.fields["method"].choices = [("", "Any"), *known]  # type: ignore[attr-defined]

    def apply(self, runs: QuerySet[Run]) -> QuerySet[Run]:
        wanted = self.cleaned_data if self.is_valid() else {}
        if wanted.get("q"):
            runs = runs.filter(name__icontains=wanted["q"])
        if wanted.get("method"):
            runs = runs.filter(method=wanted["method"])
        if wanted.get("state") == "live":
            runs = runs.filter(job__state__in=["queued", "running", "cancelling"])
        elif wanted.get("state"):
            runs = runs.filter(job__state=wanted["state"])
        return runs


class CompareForm(forms.Form):
    """Which measured results stand side by side, and the axes of their plot."""

    edition = EditionChoice(Edition.objects.none(), required=False, label="Labelled set", empty_label="Any")
    run = forms.ModelMultipleChoiceField(Run.objects.none(), required=False, widget=forms.MultipleHiddenInput)
    x = forms.ChoiceField(required=False, label="Across", choices=[])
    y = forms.ChoiceField(required=False, label="Up", choices=[])
    seeds = forms.BooleanField(required=False, label="Mean over seeds")
    method = forms.MultipleChoiceField(required=False, label="Methods", widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, user: "User", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.runs = runs_measured(user)
        self.fields["run"].queryset = self.runs  # type: ignore[attr-defined]
        self.fields["edition"].queryset = editions_measured(user)  # type: ignore[attr-defined]
        used = set(self.runs.values_list("method", flat=True))
        known = [(name, each.card.title) for name, each in methods().items() if name in used]
        self.fields["method"].choices = known  # type: ignore[attr-defined]
        axes = [(measure.name, measure.title) for measure in MEASURES.values()]
        for name, default in zip(("x", "y"), AXES, strict=True):
            self.fields[name].choices = axes  # type: ignore[attr-defined]
            self.fields[name].initial = default

    def lines(self) -> list[Line]:
        """What was asked for; nothing where the form is not valid."""
        wanted = self.cleaned_data if self.is_valid() else None
        if wanted is None:
            return []
        runs = self.runs
        if wanted["edition"]:
            runs = runs.filter(edition=wanted["edition"])
        if wanted["method"]:
            runs = runs.filter(method__in=wanted["method"])
        if wanted["run"]:
            runs = runs.filter(pk__in=wanted["run"])
        lines = lines_of(runs)
        return over_seeds(lines) if wanted["seeds"] else lines

    def axes(self) -> tuple[Measure, Measure]:
        cleaned = getattr(self, "cleaned_data", {})
        first, second = (cleaned.get(name) or default for name, default in zip(("x", "y"), AXES, strict=True))
        return MEASURES[first], MEASURES[second]


class SetForm(forms.ModelForm):
    """A new labelled set."""

    class Meta:
        model = LabelledSet
        fields = ["name", "task", "taxonomy", "description", "is_public"]
        labels = {"taxonomy": "Label space", "is_public": "Every researcher may look at it"}
        help_texts = {"is_public": "", "taxonomy": "Of class labels; quality labels have none"}
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, *args: Any, user: "User", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light()  # type: ignore[attr-defined]
        self.initial.setdefault("task", Task.QUALITY)

    def _post_clean(self) -> None:
        """The model's own validators are the service's business: one set of messages."""


class EditionForm(forms.Form):
    """A new edition: sources of the edition it goes on from, and new ones."""

    kept = forms.TypedMultipleChoiceField(
        required=False, coerce=int, label="Keep", widget=forms.CheckboxSelectMultiple,
        help_text="Sources of the edition that this one goes on from, as they were",
    )  # fmt: skip
    corpora = forms.ModelMultipleChoiceField(
        Corpus.objects.none(), required=False, widget=forms.CheckboxSelectMultiple, help_text="Labels that came with it"
    )
    campaigns = forms.ModelMultipleChoiceField(
        Campaign.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What people said of its ordinary trials; the control arm is never learnt from",
    )
    scores = forms.ModelMultipleChoiceField(
        Scores.objects.none(),
        required=False,
        label="Scores",
        widget=forms.CheckboxSelectMultiple,
        help_text="Of a quality measure, as pseudo-ratings",
    )
    origin = forms.ChoiceField(
        label="Origin of what is new",
        choices=[("base", "Base: labels to begin with"), ("found", "Found: images on which a model failed")],
        help_text="Fine-tuning draws half of every batch from each",
    )
    split = forms.ChoiceField(
        label="Split of what is new",
        choices=[("by_group", "By content, into all three"), ("train", "All new contents into train")],
        help_text="Contents that have a split already keep it",
    )
    fractions = SequenceField(
        of=float, initial=FRACTIONS, label="Train, val, test", help_text="Shares of the contents, which add up to 1"
    )
    seed = forms.IntegerField(min_value=0, max_value=MOST_SEED, initial=0, help_text="Of the split by content")

    def __init__(
        self, *args: Any, labelled_set: LabelledSet, based_on: Edition | None, user: "User", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.labelled_set, self.based_on = labelled_set, based_on
        older = based_on.sources if based_on else []
        said = dict(enumerate(offers.source_words(older)))
        self.fields["kept"].choices = list(said.items())  # type: ignore[attr-defined]
        self.initial.setdefault("kept", list(said))
        choices = {
            "corpora": offers.corpora_for(labelled_set, user),
            "campaigns": offers.campaigns_for(labelled_set, user),
            "scores": offers.scores_for(labelled_set, user),
        }
        for name, queryset in choices.items():
            self.fields[name].queryset = queryset  # type: ignore[attr-defined]
        if not older:
            del self.fields["kept"]
        if labelled_set.task != Task.QUALITY:
            del self.fields["scores"]
        if based_on:
            self.fields["seed"].initial = based_on.seed
            shares = based_on.counts.get("fractions")
            self.fields["fractions"].initial = tuple(shares.values()) if shares else FRACTIONS

    def service_arguments(self) -> dict[str, Any]:
        """What ``edition_add`` takes."""
        cleaned = self.cleaned_data
        older = self.based_on.sources if self.based_on else []
        common = {"origin": cleaned["origin"], "split": cleaned["split"]}
        new: list[dict[str, Any]] = [{"kind": "corpus", "corpus": each.pk} for each in cleaned["corpora"]]
        new += [{"kind": "campaign", "campaign": each.pk} for each in cleaned["campaigns"]]
        new += [
            {"kind": "scores", "version": each.version_id, "corpus": each.corpus_id}
            for each in cleaned.get("scores", ())
        ]
        return {
            "sources": [older[at] for at in cleaned.get("kept", ())] + [source | common for source in new],
            "seed": cleaned["seed"],
            "fractions": cleaned["fractions"],
            "based_on": self.based_on,
        }

    def blame(self, error: DomainError) -> None:
        """Show a service's error at the field it names; sources are several fields."""
        self.add_error(error.field if error.field in self.fields else None, str(error))
