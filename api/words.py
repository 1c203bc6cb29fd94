"""What Django REST framework says to people and has no Russian for: named here, so that our catalogue has it."""

from django.utils.translation import gettext_noop

LACKING = (
    gettext_noop("Ensure this field has at least {min_length} elements."),
    gettext_noop("Ensure this field has no more than {max_length} elements."),
    gettext_noop("Must be a valid boolean."),
    gettext_noop("No data provided"),
    gettext_noop("Not a valid string."),
)
