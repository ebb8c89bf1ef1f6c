"""Forms of the campaign pages."""

from typing import Any, cast

from django import forms

from accounts.models import User
from corpora.models import Taxonomy
from labeling.models import Campaign, Invite


class CampaignForm(forms.ModelForm):
    """A campaign's settings; what judgements rest on is fixed once it has been opened."""

    class Meta:
        model = Campaign
        fields = [
            "name", "taxonomy", "overlap", "extra_slots", "instructions", "consent", "purpose", "gold_share",
            "gold_warn", "gold_stop", "gold_minimum", "repeat_share", "lease_seconds", "require_viewing",
            "show_agreement", "seed", "is_public",
        ]  # fmt: skip
        widgets = {name: forms.Textarea(attrs={"rows": 4}) for name in ("instructions", "consent", "purpose")}

    def __init__(self, *args: Any, by: User, fixed: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cast("forms.ModelChoiceField[Taxonomy]", self.fields["taxonomy"]).queryset = Taxonomy.objects.visible_to(
            by
        ).light()
        for name in fixed:
            self.fields[name].disabled = True
            self.fields[name].help_text = "Fixed once a campaign has been opened."


class InviteForm(forms.ModelForm):
    class Meta:
        model = Invite
        fields = ["note", "quota", "expires_at"]
        widgets = {"expires_at": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")}
        labels = {"note": "For whom", "quota": "Places", "expires_at": "Expires (UTC)"}


class ExcludeForm(forms.Form):
    reason = forms.CharField(max_length=300, label="Reason")
    replace = forms.BooleanField(required=False, label="Ask somebody else instead, for every judgement left out")
