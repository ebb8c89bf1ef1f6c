"""``{{ job|numbers }}``: how far a job is, in words."""

from django import template

from jobs.words import numbers

register = template.Library()
register.filter("numbers", numbers)
