"""Forms of the zoo. They shape and check input; whether a person may do it is the services' business."""

import json
from pathlib import Path
from typing import Any

from django import forms
from django.db.models import F
from django.urls import reverse_lazy

from accounts.errors import DomainError
from accounts.models import User
from corpora.locations import import_roots, require_location
from corpora.models import Corpus, CorpusState, Taxonomy
from models_zoo.adapters.spec import Preprocessing, VersionRefused
from models_zoo.models import Model, Outputs, Scores, Task, Version, VersionKind
from models_zoo.presets import PRESETS, PRESETS_BY_KEY

CUSTOM = "custom"
SORTS = {
    "name": "Name",
    "-best_accuracy": "Accuracy, best first",
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
]
MILLION = 1_000_000


class ZooFilterForm(forms.Form):
    """What the list of models shows; nothing is required and a bad value filters nothing."""

    q = forms.CharField(required=False, label="Search", widget=forms.SearchInput)
    task = forms.ChoiceField(required=False, choices=[("", "Any"), *Task.choices])
    taxonomy = forms.ModelChoiceField(Taxonomy.objects.none(), required=False, empty_label="Any", label="Label space")
    kind = forms.ChoiceField(required=False, choices=[("", "Any"), *KINDS_IN_SHORT], label="Has")
    max_parameters = forms.FloatField(required=False, min_value=0, label="At most, million parameters")
    corpus = forms.ModelChoiceField(Corpus.objects.none(), required=False, empty_label="No corpus", label="Accuracy on")
    min_accuracy = forms.FloatField(required=False, min_value=0, max_value=100, label="At least, % correct")
    sort = forms.ChoiceField(required=False, choices=SORTS.items())

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light().order_by("name")  # type: ignore[attr-defined]
        self.fields["corpus"].queryset = labelled_corpora(user)  # type: ignore[attr-defined]

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


def labelled_corpora(user: User) -> Any:
    """Ready corpora with labels that this person may see."""
    return Corpus.objects.visible_to(user).filter(state=CorpusState.READY, n_labelled__gt=0).order_by("name")


class ModelForm(forms.ModelForm):
    class Meta:
        model = Model
        fields = ["name", "taxonomy", "description", "licence", "source_url", "is_public"]
        labels = {
            "taxonomy": "Label space",
            "licence": "Licence of the weights",
            "source_url": "Where it comes from",
            "is_public": "Every researcher may look at it",
        }
        help_texts = {
            "name": "What people call it; versions get their own labels",
            "licence": "Such as Apache-2.0 or CC BY-NC 4.0",
            "source_url": "Address of the paper or repository",
            "is_public": "",
        }
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            del self.fields["taxonomy"]
        else:
            self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light().order_by("name")  # type: ignore[attr-defined]


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
        choices=[*((preset.key, preset.label) for preset in PRESETS), (CUSTOM, "By hand: the fields below")],
        initial="imagenet",
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
    channels = forms.ChoiceField(required=False, choices=[("rgb", "RGB"), ("bgr", "BGR"), ("grey", "Grey")])
    range = forms.TypedChoiceField(
        required=False,
        coerce=int,
        choices=[(1, "0 to 1"), (255, "0 to 255")],
        label="White before normalisation",
    )
    mean = NumbersField(required=False, help_text="One number per channel, in the range above; empty: 0")
    std = NumbersField(required=False, label="Deviation", help_text="One number per channel; empty: 1")

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        preset = PRESETS_BY_KEY.get(said.get("preset", ""))
        if preset is not None:
            said["preprocessing"] = preset.preprocessing
        elif not self.errors:
            names = ("resize", "resize_mode", "interpolation", "crop", "channels", "range", "mean", "std")
            given = {name: said[name] for name in names if said.get(name) not in (None, "")}
            try:
                said["preprocessing"] = Preprocessing.from_dict(given)
            except VersionRefused as error:
                raise forms.ValidationError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
        return said

    @staticmethod
    def values_of(preprocessing: Preprocessing) -> dict[str, Any]:
        """What the fields show for a preprocessing."""
        return {
            "resize": preprocessing.resize,
            "resize_mode": preprocessing.resize_mode,
            "interpolation": preprocessing.interpolation,
            "crop": preprocessing.crop,
            "channels": preprocessing.channels,
            "range": preprocessing.range,
            "mean": ", ".join(f"{value:g}" for value in preprocessing.mean),
            "std": ", ".join(f"{value:g}" for value in preprocessing.std),
        }


class VersionForm(PreprocessingForm):
    """A new version: a file and what it takes to run it. Fields that the chosen kind does not need are ignored."""

    label = forms.CharField(max_length=60, help_text='Such as "v1" or "epoch 90"; a version never changes')
    kind = forms.ChoiceField(choices=VersionKind.choices, label="What the file is")
    file = forms.FileField(
        required=False,
        help_text=".safetensors, a state dict of torch.save, .onnx, .pt2, or predictions as .csv or .parquet. "
        "What it is, is told from its content; nothing is unpickled.",
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
    field_order = ["label", "kind", "file", "path", "architecture", "arch_kwargs", "corpus", "preset"]
    kinds_of_field = {
        "architecture": "torch",
        "arch_kwargs": "torch",
        "corpus": "predictions",
        **dict.fromkeys(
            ("preset", "resize", "resize_mode", "interpolation", "crop", "channels", "range", "mean", "std", "outputs"),
            "torch onnx export",
        ),
    }

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["corpus"].queryset = (  # type: ignore[attr-defined]
            Corpus.objects.visible_to(user).filter(state=CorpusState.READY).order_by("name")
        )
        self.fields["parents"].queryset = Version.objects.visible_to(user).select_related("model")  # type: ignore[attr-defined]
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
        if said.get("kind") == VersionKind.PREDICTIONS:
            for name in ("mean", "std", "resize", "crop"):
                self.errors.pop(name, None)
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
            "file": said["file"] or said["path"],
            "architecture": said["architecture"].strip(),
            "arch_kwargs": said["arch_kwargs"],
            "preprocessing": said.get("preprocessing"),
            "outputs": said["outputs"] or Outputs.LOGITS,
            "corpus": said["corpus"],
            "parents": list(said["parents"]),
        }


class PictureForm(forms.Form):
    """A picture to try; and a second version to see beside the first."""

    picture = forms.FileField(label="Picture", widget=forms.FileInput(attrs={"accept": "image/*"}))
    beside = forms.ModelChoiceField(
        Version.objects.none(), required=False, label="Beside it", empty_label="No other version"
    )

    def __init__(self, *args: Any, user: User, version: Version, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = (
            Version.objects.visible_to(user).verified().exclude(kind=VersionKind.PREDICTIONS).exclude(pk=version.pk)
        )
        self.fields["beside"].queryset = others.select_related("model")  # type: ignore[attr-defined]


class CompareForm(forms.Form):
    first = forms.ModelChoiceField(Version.objects.none(), label="Left")
    second = forms.ModelChoiceField(Version.objects.none(), label="Right")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in ("first", "second"):
            self.fields[field].queryset = Version.objects.visible_to(user).for_lists()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("first") and said["first"] == said.get("second"):
            self.add_error("second", "That is the same version: choose another one.")
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
