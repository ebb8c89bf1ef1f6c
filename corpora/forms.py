"""Forms of the corpora pages."""

import tempfile
from pathlib import Path
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from accounts.models import User
from corpora import locations
from corpora.importers.base import LABELS_FROM, PHOTOGRAPHS, SPLITS, YES
from corpora.models import Corpus, CorpusSource, Taxonomy, TaxonomyKind


class CorpusForm(forms.Form):
    """What to import. `creation` gives the arguments of `corpus_create`."""

    name = forms.CharField(max_length=120)
    source = forms.ChoiceField(choices=CorpusSource.choices, initial=CorpusSource.FOLDER, label="Where the images are")
    photographs = forms.ChoiceField(
        choices=PHOTOGRAPHS.items(), required=False, label="Photographs to distort", initial=""
    )
    corpus = forms.ModelChoiceField(
        queryset=Corpus.objects.none(),
        required=False,
        empty_label="None: those of the folder below",
        label="Corpus of photographs",
        help_text="All its images are distorted; of a corpus with references, the references",
    )
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
    mos_low = forms.FloatField(
        required=False, label="Lowest opinion score of the scale", help_text="If the list has a column mos"
    )
    mos_high = forms.FloatField(
        required=False, label="Highest opinion score of the scale", help_text="Scores outside are refused"
    )
    higher_is_worse = forms.ChoiceField(
        choices=YES.items(), required=False, label="Higher scores mean worse images (DMOS)"
    )
    split = forms.ChoiceField(choices=SPLITS.items(), required=False, label="Part of the data set")
    size = forms.CharField(
        max_length=11,
        required=False,
        label="Scale down and crop to",
        help_text="Width and height in pixels, such as 512x384; empty: the photographs as they are",
    )
    seed = forms.IntegerField(
        min_value=0, required=False, label="Seed of the noise", help_text="The same seed gives the same images"
    )
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
        self.fields["corpus"].queryset = Corpus.objects.visible_to(user).ready().defer("facts")  # type: ignore[attr-defined]
        self.fields["taxonomy"].queryset = Taxonomy.objects.visible_to(user).light()  # type: ignore[attr-defined]
        roots = locations.import_roots(user)
        where = "anywhere on the server" if roots is None else " or ".join(map(str, roots))
        self.fields["location"].help_text = f"Absolute; you may import from {where}. Folders are read where they lie"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        places = [bool(cleaned.get("location", "").strip()), bool(cleaned.get("upload"))]
        if cleaned.get("source") == CorpusSource.DISTORTED:
            if sum([*places, bool(cleaned.get("corpus")), bool(cleaned.get("photographs"))]) != 1:
                self.add_error("photographs", "Choose one: installed packages, a corpus, or a folder on the server.")
        elif sum(places) != 1:
            self.add_error("location", "Give either a path on the server or a file to upload.")
        return cleaned

    def creation(self) -> dict[str, Any]:
        """Only the options that the source uses."""
        values = dict(self.cleaned_data)
        options = {name: values.pop(name) for names in OPTIONS_OF.values() for name in names if name in values}
        if options["corpus"]:
            options["corpus"] = options["corpus"].pk
        used = OPTIONS_OF.get(values["source"], ())
        values["options"] = {name: options[name] for name in used if options[name] not in ("", None)}
        return values


OPTIONS_OF = {
    CorpusSource.FOLDER: ("labels_from",),
    CorpusSource.ARCHIVE: ("labels_from",),
    CorpusSource.LIST: ("labels_from", "root", "mos_low", "mos_high", "higher_is_worse"),
    CorpusSource.CIFAR: ("split",),
    CorpusSource.MNIST: ("split",),
    CorpusSource.SVHN: ("split",),
    CorpusSource.STL10: ("split",),
    CorpusSource.DISTORTED: ("photographs", "corpus", "size", "seed"),
}


class CorpusEditForm(forms.ModelForm):
    """What may change after the import."""

    class Meta:
        model = Corpus
        fields = ["name", "description", "is_public"]
        labels = {"is_public": "Every researcher may look at it"}
        help_texts = {"is_public": ""}
        widgets = {"description": forms.Textarea(attrs={"rows": 3})}


class OpinionForm(forms.Form):
    """A table of opinion scores. `attachment` gives the arguments of `corpus_opinions_import`, without the file."""

    upload = forms.FileField(
        label="Table of scores",
        help_text="CSV or Parquet with the columns path and mos, and optionally std and n (number of ratings). Paths "
        "as the corpus has them, or file names alone",
    )
    low = forms.FloatField(required=False, label="Lowest score of the scale", help_text="Empty: the lowest in the file")
    high = forms.FloatField(required=False, label="Highest score of the scale")
    higher_is_worse = forms.BooleanField(
        required=False,
        label="Higher scores mean worse images (DMOS)",
        help_text="They are turned round: a corpus keeps higher for better",
    )

    def attachment(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("low", "high", "higher_is_worse")}


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
