"""Forms of the campaign pages."""

from typing import Any, cast

from django import forms
from django.core.files.uploadedfile import UploadedFile

from accounts.errors import DomainError
from accounts.models import User
from corpora.models import Corpus, Taxonomy
from labeling.listing import Pairing, rows_of, text_of_rows
from labeling.models import Campaign, Invite
from labeling.protocols import PROTOCOLS

LIST_BYTES = 4 * 2**20
PAIRINGS = [
    ("every", "Every two of the rows"),
    ("neighbours", "Each row with the next"),
    ("content", "Every two of the same content group"),
]


class ProtocolSelect(forms.Select):
    """Marks the protocols that need a taxonomy, so that the page hides its field for the others."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        protocol = PROTOCOLS.get(str(value))
        if protocol and protocol.needs_taxonomy:
            option["attrs"]["data-taxonomy"] = True
        return option


class CampaignForm(forms.ModelForm):
    """A campaign's settings; what judgements rest on is fixed once it has been opened."""

    class Meta:
        model = Campaign
        fields = [
            "name", "protocol", "taxonomy", "question", "overlap", "extra_slots", "sampling", "budget", "instructions",
            "consent", "purpose", "gold_share", "gold_warn", "gold_stop", "gold_minimum", "repeat_share",
            "block_minutes", "lease_seconds", "require_viewing", "show_agreement", "seed", "is_public",
        ]  # fmt: skip
        widgets = {
            "protocol": ProtocolSelect,
            **{name: forms.Textarea(attrs={"rows": 4}) for name in ("instructions", "consent", "purpose")},
        }
        labels = {
            "overlap": "People per trial",
            "extra_slots": "More people on a tie, at most",
            "sampling": "Pairs asked about",
            "budget": "Budget of judgements",
            "gold_share": "Share of gold",
            "gold_warn": "Gold: warn below",
            "gold_stop": "Gold: stop below",
            "gold_minimum": "Gold answers before that",
            "repeat_share": "Share of repeats",
            "block_minutes": "Minutes between breaks",
            "lease_seconds": "Seconds a trial is held for a person",
            "require_viewing": "Viewing check is required",
            "show_agreement": "Tell people their agreement",
            "is_public": "Public",
        }

    def __init__(self, *args: Any, by: User, fixed: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("forms.ModelChoiceField[Taxonomy]", self.fields["taxonomy"]).queryset = Taxonomy.objects.visible_to(
            by
        ).light()
        for name in fixed:
            self.fields[name].disabled = True
            self.fields[name].help_text = "Fixed once a campaign has been made or opened."
        if self.instance.pk is None:
            self._leave_to_protocol()

    def _leave_to_protocol(self) -> None:
        """What is left empty in a new campaign is as its protocol advises."""
        for name in {name for protocol in PROTOCOLS.values() for name in protocol.defaults}:
            field = self.fields[name]
            field.required, field.initial, self.initial[name] = False, None, None
            field.widget.attrs["placeholder"] = "as the protocol advises"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        protocol = PROTOCOLS.get(cleaned.get("protocol", ""))
        if protocol and not protocol.needs_taxonomy:
            cleaned["taxonomy"] = None
        return cleaned

    def given(self) -> dict[str, Any]:
        """The settings that were filled in."""
        return {name: value for name, value in self.cleaned_data.items() if value is not None}


class TrialsForm(forms.Form):
    """Where new trials come from: rows of a corpus, an uploaded list, or a list typed in."""

    corpus = forms.ModelChoiceField(Corpus.objects.none(), help_text="Whose pictures people will see")
    rows = forms.CharField(required=False, help_text="Such as 0-19, 25: they replace the list below")
    pairing = forms.ChoiceField(choices=PAIRINGS, required=False, label="Pairs of the rows")
    classes = forms.CharField(
        required=False, label="Classes asked about", help_text="One or two, separated by “;”: names or indices"
    )
    file = forms.FileField(required=False, label="CSV file", help_text="Replaces the list below")
    list = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "class": "mono"})
    )

    def __init__(self, *args: Any, campaign: Campaign, by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaign = campaign
        protocol = PROTOCOLS[campaign.protocol]
        cast("forms.ModelChoiceField[Corpus]", self.fields["corpus"]).queryset = Corpus.objects.visible_to(by).ready()
        if protocol.n_pictures == 1:
            del self.fields["pairing"]
        if not protocol.needs_taxonomy:
            del self.fields["classes"]

    def list_text(self) -> str:
        """The list that the fields make.

        Raises:
            DomainError: no such rows, or a file that is no text.
        """
        given, corpus = self.cleaned_data, self.cleaned_data["corpus"]
        if given["rows"].strip():
            rows = rows_of(given["rows"], corpus.n_rows)
            pairing = cast("Pairing", given.get("pairing") or "every")
            return text_of_rows(self.campaign, corpus, rows, pairing=pairing, classes=given.get("classes", ""))
        return _text_of(given["file"]) if given["file"] else given["list"]


class CandidatesForm(forms.Form):
    """Which pictures active sampling compares with each other."""

    corpus = forms.ModelChoiceField(Corpus.objects.none(), help_text="Whose pictures people will see")
    rows = forms.CharField(help_text="Such as 0-19, 25")
    by_scene = forms.BooleanField(required=False, label="Compare within content groups only")

    def __init__(self, *args: Any, by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("forms.ModelChoiceField[Corpus]", self.fields["corpus"]).queryset = Corpus.objects.visible_to(by).ready()

    def given(self) -> dict[str, Any]:
        """What ``candidates_add`` takes; raises DomainError for rows that do not exist."""
        corpus = self.cleaned_data["corpus"]
        return {**self.cleaned_data, "rows": rows_of(self.cleaned_data["rows"], corpus.n_rows)}


def _text_of(file: UploadedFile) -> str:
    if (file.size or 0) > LIST_BYTES:
        raise DomainError(f"The list is larger than {LIST_BYTES // 2**20} MB: cut it into parts.", field="file")
    try:
        return str(file.read().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DomainError("The list is no UTF-8 text: save it as CSV (UTF-8).", field="file") from None


class InviteForm(forms.ModelForm):
    class Meta:
        model = Invite
        fields = ["note", "quota", "expires_at"]
        widgets = {"expires_at": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")}
        labels = {"note": "For whom", "quota": "Places", "expires_at": "Expires (UTC)"}


class ExcludeForm(forms.Form):
    reason = forms.CharField(max_length=300, label="Reason")
    replace = forms.BooleanField(required=False, label="Ask somebody else instead, for every judgement left out")
