"""Forms of the corpora pages."""

import tempfile
from pathlib import Path
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from accounts.models import User
from corpora import locations
from corpora.importers.base import LABELS_FROM, SPLITS
from corpora.models import CorpusSource, Taxonomy, TaxonomyKind


class CorpusForm(forms.Form):
    """What to import. `creation` gives the arguments of `corpus_create`."""

    name = forms.CharField(max_length=120)
    source = forms.ChoiceField(choices=CorpusSource.choices, initial=CorpusSource.FOLDER, label="Where the images are")
    location = forms.CharField(max_length=1000, required=False, label="Path on the server")
    upload = forms.FileField(
        required=False,
        label="Or upload a file",
        help_text="A zip or tar archive, a CSV or Parquet list, a WebDataset shard or CIFAR's tar",
    )
    labels_from = forms.ChoiceField(
        choices=LABELS_FROM.items(),
        required=False,
        label="Labels from folder names",
        help_text="For folders and archives with one folder per class; labels are optional and only used to check "
        "against",
    )
    root = forms.CharField(
        max_length=1000,
        required=False,
        label="Folder that the list's paths are relative to",
        help_text="Empty: the folder of the list itself",
    )
    split = forms.ChoiceField(choices=SPLITS.items(), required=False, label="Part of CIFAR")
    taxonomy = forms.ModelChoiceField(
        queryset=Taxonomy.objects.none(),
        required=False,
        empty_label="None, or made from the labels' names",
        help_text="The label space of the labels. Labels may be class indices, ids, names or synonyms",
    )
    description = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    is_public = forms.BooleanField(required=False, label="Every researcher may look at it")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light()  # type: ignore[attr-defined]
        roots = locations.import_roots(user)
        where = "anywhere on the server" if roots is None else " or ".join(map(str, roots))
        self.fields["location"].help_text = f"Absolute; you may import from {where}. Folders are read where they lie"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if bool(cleaned.get("location", "").strip()) == bool(cleaned.get("upload")):
            self.add_error("location", "Give either a path on the server or a file to upload.")
        return cleaned

    def creation(self) -> dict[str, Any]:
        values = dict(self.cleaned_data)
        values["options"] = {name: values.pop(name) for name in ("labels_from", "root", "split")}
        values["options"] = {name: value for name, value in values["options"].items() if value}
        if values["source"] != CorpusSource.CIFAR:
            values["options"].pop("split", None)
        return values


class TaxonomyForm(forms.Form):
    """A label space of one's own: a hierarchy as CSV, or a plain list of class names."""

    name = forms.CharField(max_length=120)
    kind = forms.ChoiceField(choices=TaxonomyKind.choices, initial=TaxonomyKind.TREE)
    file = forms.FileField(
        required=False,
        label="CSV of the hierarchy",
        help_text="Columns child, parent, class, and optionally name, synonyms, gloss: one row per child and parent; "
        "class is the index of a leaf, 0 upwards",
    )
    names = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6}),
        required=False,
        label="Class names, one a line, in the order of their index",
        help_text="For the kind without hierarchy",
    )
    is_public = forms.BooleanField(required=False, label="Every researcher may look at it")

    def clean_names(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["names"].splitlines() if line.strip()]

    def creation(self, folder: str) -> dict[str, Any]:
        """The arguments of `taxonomy_create`; an uploaded CSV is put into `folder`."""
        values = dict(self.cleaned_data)
        values["file"] = upload_to(folder, values["file"]) if values["file"] else None
        return values


def upload_to(folder: str, upload: UploadedFile) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".csv", delete=False) as file:
        for chunk in upload.chunks():
            file.write(chunk)
    return Path(file.name)
