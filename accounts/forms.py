"""Forms of the account page."""

from django import forms

from accounts.models import MembershipRole, Scope


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80, label="What will use it", help_text="For your own reference")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, widget=forms.CheckboxSelectMultiple, initial=[Scope.READ], label="May"
    )
    days = forms.IntegerField(
        min_value=1,
        max_value=3650,
        required=False,
        initial=365,
        label="Days until it expires",
        help_text="Empty: never",
    )


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(
        choices=[("", "As the system says"), ("light", "Light"), ("dark", "Dark")], required=False, label="Theme"
    )
    display_name = forms.CharField(max_length=80, required=False, label="Name shown to researchers")


class MembershipForm(forms.Form):
    username = forms.CharField(max_length=150, label="Account")
    role = forms.ChoiceField(choices=MembershipRole.choices, label="Role")
