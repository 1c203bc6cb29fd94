"""Filters of lists that say so when they are given nonsense."""

from typing import Any

import django_filters
from django import forms
from django.utils.translation import gettext as _


class FlagField(forms.Field):
    """`true` or `false`, also as 1 and 0; empty: not asked."""

    values = {"": None, "true": True, "1": True, "false": False, "0": False}

    def clean(self, value: Any) -> bool | None:
        if (text := str(value or "").lower()) not in self.values:
            raise forms.ValidationError(_("Enter true or false."), code="invalid")
        return self.values[text]


class FlagFilter(django_filters.BooleanFilter):
    field_class = FlagField
