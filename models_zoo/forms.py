"""Forms of the zoo. They shape and check input; whether a person may do it is the services' business."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from django import forms
from django.db.models import F, Q
from django.urls import reverse_lazy

from accounts.errors import DomainError
from accounts.models import User
from corpora.locations import import_roots, require_location
from corpora.models import Corpus, CorpusState, Taxonomy
from models_zoo.adapters.spec import Preprocessing, VersionRefused
from models_zoo.metrics import MetricCard, list_metrics
from models_zoo.models import ADDED_KINDS, Model, Outputs, Purpose, Scores, Task, Version, VersionKind
from models_zoo.presets import PRESETS_BY_KEY, presets_for

CUSTOM = "custom"
SORTS = {
    "name": "Name",
    "-best_accuracy": "Accuracy, best first",
    "-best_srcc": "Agreement with people, best first",
    "parameters": "Parameters, fewest first",
    "-parameters": "Parameters, most first",
    "macs": "MACs, fewest first",
    "milliseconds": "Time, fastest first",
    "-created_at": "Newest first",
}
KINDS_IN_SHORT = [
    (VersionKind.TORCH, "Weights"),
    (VersionKind.ONNX, "ONNX"),
    (VersionKind.EXPORT, "Exported program"),
    (VersionKind.PREDICTIONS, "Predictions"),
    (VersionKind.METRIC, "Measure"),
]
MILLION = 1_000_000


class ZooFilterForm(forms.Form):
    """What the list of models shows; nothing is required and a bad value filters nothing."""

    q = forms.CharField(required=False, label="Search", widget=forms.SearchInput)
    task = forms.ChoiceField(required=False, choices=[("", "Any"), *Task.choices])
    taxonomy = forms.ModelChoiceField(Taxonomy.objects.none(), required=False, empty_label="Any", label="Label space")
    kind = forms.ChoiceField(required=False, choices=[("", "Any"), *KINDS_IN_SHORT], label="Has")
    max_parameters = forms.FloatField(required=False, min_value=0, label="At most, million parameters")
    corpus = forms.ModelChoiceField(Corpus.objects.none(), required=False, empty_label="No corpus", label="Results on")
    min_accuracy = forms.FloatField(required=False, min_value=0, max_value=100, label="At least, % correct")
    sort = forms.ChoiceField(required=False, choices=SORTS.items())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light().order_by("name")  # type: ignore[attr-defined]
        self.fields["corpus"].queryset = judged_corpora(user)  # type: ignore[attr-defined]

    def apply(self, models: Any) -> Any:
        """The filtered and sorted queryset of models, summarised (``ModelQuerySet.with_summary``)."""
        self.full_clean()
        said: dict[str, Any] = getattr(self, "cleaned_data", {})
        rows = models.with_summary(said.get("corpus"))
        if said.get("q"):
            rows = rows.filter(name__icontains=said["q"])
        for field in ("task", "taxonomy"):
            if said.get(field):
                rows = rows.filter(**{field: said[field]})
        if said.get("kind"):
            rows = rows.filter(pk__in=Version.objects.filter(kind=said["kind"]).values("model"))
        if said.get("max_parameters") is not None:
            rows = rows.filter(parameters__lte=said["max_parameters"] * MILLION)
        if said.get("corpus") and said.get("min_accuracy") is not None:
            rows = rows.filter(best_accuracy__gte=said["min_accuracy"] / 100)
        return rows.order_by(*_order(said.get("sort") or "name"))


def _order(sort: str) -> list[Any]:
    column = F(sort.removeprefix("-"))
    ordered = column.desc(nulls_last=True) if sort.startswith("-") else column.asc(nulls_last=True)
    return [ordered, "pk"]


def judged_corpora(user: User) -> Any:
    """Ready corpora with labels or opinion scores that this person may see."""
    judged = Q(n_labelled__gt=0) | Q(n_rated__gt=0)
    return Corpus.objects.visible_to(user).filter(judged, state=CorpusState.READY).order_by("name")


class ModelForm(forms.ModelForm):
    class Meta:
        model = Model
        fields = [
            "name", "task", "taxonomy", "higher_is_better", "score_low", "score_high", "description", "licence",
            "source_url", "is_public",
        ]  # fmt: skip
        labels = {
            "taxonomy": "Label space",
            "higher_is_better": "A higher score means better quality",
            "score_low": "Lowest score",
            "score_high": "Highest score",
            "licence": "Licence of the weights",
            "source_url": "Where it comes from",
            "is_public": "Every researcher may look at it",
        }
        help_texts = {
            "name": "What people call it; versions get their own labels",
            "task": "A classifier says what is in an image, a quality model how good it looks",
            "taxonomy": "The classes that it predicts",
            "higher_is_better": "",
            "score_low": "The end of its scale; empty where there is none",
            "score_high": "The end of its scale; empty where there is none",
            "licence": "Such as Apache-2.0 or CC BY-NC 4.0",
            "source_url": "Address of the paper or repository",
            "is_public": "",
        }
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}

    tasks_of_field = {
        "taxonomy": Task.CLASSIFICATION,
        "higher_is_better": Task.QUALITY,
        "score_low": Task.QUALITY,
        "score_high": Task.QUALITY,
    }

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            fixed = ["task", "taxonomy", "higher_is_better"]
            unsuitable = [name for name, task in self.tasks_of_field.items() if task != self.instance.task]
            for name in {*fixed, *unsuitable}:
                del self.fields[name]
        else:
            self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light().order_by("name")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """What does not belong to the chosen task is not looked at."""
        said = super().clean() or {}
        if not self.instance.pk:
            unused = {"taxonomy": None, "higher_is_better": True, "score_low": None, "score_high": None}
            for name, task in self.tasks_of_field.items():
                if task != said.get("task", task):
                    said[name] = unused[name]
                    self.errors.pop(name, None)
            if said.get("task") == Task.CLASSIFICATION and not said.get("taxonomy") and "taxonomy" not in self.errors:
                self.add_error("taxonomy", "A classifier predicts in a label space: choose which.")
        low, high = said.get("score_low"), said.get("score_high")
        if low is not None and high is not None and low >= high:
            self.add_error("score_high", "It has to lie above the lowest score.")
        return said


class NumbersField(forms.CharField):
    """Numbers with commas or spaces between them -> list of floats; empty -> None."""

    def clean(self, value: Any) -> list[float] | None:
        text = super().clean(value)
        try:
            return [float(part) for part in text.replace(",", " ").split()] or None
        except ValueError:
            raise forms.ValidationError(
                f'"{text}" is no list of numbers: write them like 0.485, 0.456, 0.406.'
            ) from None


class PreprocessingForm(forms.Form):
    """A preset, or every field of ``Preprocessing`` by hand."""

    preset = forms.ChoiceField(
        label="How an image becomes the input",
        help_text="It must be what the model was trained with: a wrong mean costs accuracy without any error",
    )
    resize = forms.IntegerField(required=False, min_value=1, max_value=4096, help_text="Pixels; empty: not resized")
    resize_mode = forms.ChoiceField(
        required=False, choices=[("shorter", "Shorter side, aspect kept"), ("stretch", "Both sides, stretched")]
    )
    interpolation = forms.ChoiceField(
        required=False,
        choices=[(name, name.capitalize()) for name in ("bilinear", "bicubic", "lanczos", "nearest", "box")],
    )
    crop = forms.IntegerField(
        required=False, min_value=1, max_value=4096, help_text="Side of the central square; empty: none"
    )
    long_side = forms.IntegerField(
        required=False,
        min_value=64,
        max_value=16_384,
        label="Longer side at most",
        help_text="Pixels; longer images are shrunk to it first, so that memory stays bounded. Empty: 3840",
    )
    channels = forms.ChoiceField(required=False, choices=[("rgb", "RGB"), ("bgr", "BGR"), ("grey", "Grey")])
    range = forms.TypedChoiceField(
        required=False,
        coerce=int,
        choices=[(1, "0 to 1"), (255, "0 to 255")],
        label="White before normalisation",
    )
    mean = NumbersField(required=False, help_text="One number per channel, in the range above; empty: 0")
    std = NumbersField(required=False, label="Deviation", help_text="One number per channel; empty: 1")
    only_for = {
        "crop": Task.CLASSIFICATION,
        "resize_mode": Task.CLASSIFICATION,
        "long_side": Task.QUALITY,
    }

    def __init__(self, *args: Any, task: str = Task.CLASSIFICATION, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.task = task
        for name in [name for name, wanted in self.only_for.items() if wanted != task]:
            del self.fields[name]
        presets = presets_for(task)
        field: Any = self.fields["preset"]
        field.choices = [*((preset.key, preset.label) for preset in presets), (CUSTOM, "By hand: the fields below")]
        field.initial = presets[0].key

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        preset = PRESETS_BY_KEY.get(said.get("preset", ""))
        if preset is not None:
            said["preprocessing"] = replace(preset.preprocessing, long_side=said.get("long_side"))
        elif not self.errors:
            names = ("resize", "resize_mode", "interpolation", "crop", "long_side", "channels", "range", "mean", "std")
            given = {name: said[name] for name in names if said.get(name) not in (None, "")}
            try:
                said["preprocessing"] = Preprocessing.from_dict(given)
            except VersionRefused as error:
                raise forms.ValidationError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
        return said

    @classmethod
    def values_of(cls, preprocessing: Preprocessing, task: str) -> dict[str, Any]:
        """What the fields of a task show for a preprocessing."""
        values = {
            "resize": preprocessing.resize,
            "resize_mode": preprocessing.resize_mode,
            "interpolation": preprocessing.interpolation,
            "crop": preprocessing.crop,
            "channels": preprocessing.channels,
            "range": preprocessing.range,
            "mean": ", ".join(f"{value:g}" for value in preprocessing.mean),
            "std": ", ".join(f"{value:g}" for value in preprocessing.std),
        }
        return {name: value for name, value in values.items() if cls.only_for.get(name, task) == task}


class VersionForm(PreprocessingForm):
    """A new version: a file and what it takes to run it. Fields that the chosen kind does not need are ignored."""

    label = forms.CharField(max_length=60, help_text='Such as "v1" or "epoch 90"; a version never changes')
    kind = forms.ChoiceField(choices=ADDED_KINDS, label="What it is")
    measure = forms.ChoiceField(required=False, label="Measure")
    file = forms.FileField(
        required=False,
        help_text=".safetensors, a state dict of torch.save, .onnx, .pt2, predictions as .csv or .parquet (quality: "
        "also .npy), or a measure's parameters as .npz. What it is, is told from its content; nothing is unpickled.",
    )
    path = forms.CharField(required=False, max_length=1000, label="… or a path on the server", strip=True)
    architecture = forms.CharField(
        required=False,
        max_length=120,
        widget=forms.TextInput(
            attrs={
                "list": "architectures",
                "autocomplete": "off",
                "spellcheck": "false",
                "hx-get": reverse_lazy("models_zoo:architectures"),
                "hx-trigger": "input changed delay:200ms, load",
                "hx-target": "#architecture-found",
            }
        ),
        help_text="Type to search: built-in names, torchvision's, and timm's with \"timm/\" before them",
    )
    arch_kwargs = forms.JSONField(
        required=False,
        initial=dict,
        label="Options of the architecture",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text='As JSON, such as {"num_classes": 10}; the number of classes is filled in when missing',
    )
    outputs = forms.ChoiceField(required=False, choices=Outputs.choices, label="What the network gives")
    corpus = forms.ModelChoiceField(Corpus.objects.none(), required=False, label="Corpus that the predictions are for")
    parents = forms.ModelMultipleChoiceField(
        Version.objects.none(), required=False, label="Made from", help_text="Versions that this one was made from"
    )
    field_order = [
        "label", "kind", "measure", "file", "path", "architecture", "arch_kwargs", "corpus", "preset",
    ]  # fmt: skip
    kinds_of_field = {
        "measure": "metric",
        "architecture": "torch",
        "arch_kwargs": "torch",
        "corpus": "predictions",
        "long_side": "torch onnx export metric",
        **dict.fromkeys(
            ("preset", "resize", "resize_mode", "interpolation", "crop", "channels", "range", "mean", "std", "outputs"),
            "torch onnx export",
        ),
    }

    only_for = PreprocessingForm.only_for | {"measure": Task.QUALITY, "outputs": Task.CLASSIFICATION}

    def __init__(self, *args: Any, user: User, task: str, **kwargs: Any) -> None:
        super().__init__(*args, task=task, **kwargs)
        if task == Task.QUALITY:
            self.fields["measure"].choices = [("", "Choose one"), *_measure_choices()]  # type: ignore[attr-defined]
        else:
            kinds = [choice for choice in ADDED_KINDS if choice[0] != VersionKind.METRIC]
            self.fields["kind"].choices = kinds  # type: ignore[attr-defined]
        self.fields["architecture"].widget.attrs["hx-vals"] = json.dumps({"task": task})
        self.fields["corpus"].queryset = (  # type: ignore[attr-defined]
            Corpus.objects.visible_to(user).filter(state=CorpusState.READY).order_by("name")
        )
        self.fields["parents"].queryset = Version.objects.visible_to(user).for_use().select_related("model")  # type: ignore[attr-defined]
        roots = import_roots(user)
        if roots is not None:
            self.fields["path"].help_text = f"Under {' or '.join(map(str, roots))}"
        self.user = user

    def clean_arch_kwargs(self) -> dict[str, Any]:
        value = self.cleaned_data.get("arch_kwargs") or {}
        if not isinstance(value, dict):
            raise forms.ValidationError(
                f'{json.dumps(value)} is no JSON object: write something like {{"num_classes": 10}}.'
            )
        return value

    def clean_path(self) -> Path | None:
        text = self.cleaned_data.get("path") or ""
        try:
            return require_location(text, self.user, field="path") if text else None
        except DomainError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        said = super().clean()
        kind = said.get("kind")
        if kind in {VersionKind.PREDICTIONS, VersionKind.METRIC}:
            for name in ("preset", "mean", "std", "resize", "crop"):
                self.errors.pop(name, None)
        if kind == VersionKind.METRIC:
            said["preprocessing"] = Preprocessing(long_side=said.get("long_side"))
            if not (said.get("file") or said.get("path")):
                return said
        if bool(said.get("file")) == bool(said.get("path")) and not {"file", "path"} & set(self.errors):
            said_both = bool(said.get("file"))
            self.add_error(
                "file", "Give one of the two: a file, or a path on the server." if said_both else "Choose a file."
            )
        return said

    def service_arguments(self) -> dict[str, Any]:
        """What ``version_add`` takes, besides model and person."""
        said = self.cleaned_data
        return {
            "label": said["label"],
            "kind": said["kind"],
            "file": said["file"] or said["path"] or None,
            "architecture": said["measure" if said["kind"] == VersionKind.METRIC else "architecture"].strip(),
            "arch_kwargs": said["arch_kwargs"],
            "preprocessing": said.get("preprocessing"),
            "outputs": said.get("outputs") or Outputs.LOGITS,
            "corpus": said["corpus"],
            "parents": list(said["parents"]),
        }


def _measure_choices() -> list[tuple[str, str]]:
    """What can be chosen here, and what a person needs to know of it."""
    return [(card.name, f"{card.title}: {', '.join(_traits(card))}") for card in list_metrics()]


def _traits(card: MetricCard) -> list[str]:
    traits = ["higher is better" if card.higher_is_better else "lower is better"]
    traits += [f"needs {card.params} parameters"] if card.params else []
    traits += ["needs references"] if card.needs_reference else []
    return traits


class PictureForm(forms.Form):
    """A picture to try; and a second version to see beside the first."""

    picture = forms.FileField(label="Picture", widget=forms.FileInput(attrs={"accept": "image/*"}))
    beside = forms.ModelChoiceField(
        Version.objects.none(), required=False, label="Beside it", empty_label="No other version"
    )

    def __init__(self, *args: Any, user: User, version: Version, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        alike = Version.objects.visible_to(user).verified().for_task(version.model.task)
        others = (
            alike.for_use().exclude(kind__in=[VersionKind.PREDICTIONS, VersionKind.ENSEMBLE]).exclude(pk=version.pk)
        )
        self.fields["beside"].queryset = others.select_related("model")  # type: ignore[attr-defined]


class CompareForm(forms.Form):
    first = forms.ModelChoiceField(Version.objects.none(), label="Left")
    second = forms.ModelChoiceField(Version.objects.none(), label="Right")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        named = [value for field in ("first", "second") if (value := str(self.data.get(field, ""))).isdecimal()]
        offered = Version.objects.visible_to(user).filter(Q(purpose=Purpose.USE) | Q(pk__in=named)).for_lists()
        for field in ("first", "second"):
            self.fields[field].queryset = offered  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        first, second = said.get("first"), said.get("second")
        if first and first == second:
            self.add_error("second", "That is the same version: choose another one.")
        elif first and second and first.model.task != second.model.task:
            self.add_error("second", "One is a classifier, the other rates quality: choose two of one sort.")
        return said


class ScoreForm(forms.Form):
    """On which corpus to score a version that has no complete scores of it."""

    corpus = forms.ModelChoiceField(Corpus.objects.none(), label="Corpus", empty_label=None)

    def __init__(self, *args: Any, user: User, version: Version, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        done = Scores.objects.filter(version=version).complete().values("corpus")
        ready = Corpus.objects.visible_to(user).filter(state=CorpusState.READY).exclude(pk__in=done)
        if version.kind == VersionKind.PREDICTIONS:
            ready = ready.filter(pk=version.corpus_id)
        self.fields["corpus"].queryset = ready.order_by("name")  # type: ignore[attr-defined]
