"""The page on which a property is connected to Avito, in four steps, and on which its connection is looked after.

Rendered here, one form a step; what was chosen is kept in the session for an hour. `connect.js` adds comfort alone.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from integrations_str.models import Integration, Property
from integrations_str.wizard.connection import Connection
from integrations_str.wizard.page import Page
from integrations_str.wizard.steps import Steps


def connect(request: HttpRequest, property_id: int) -> HttpResponse:
    """The page of one property of the reader's own; another's is as unknown as one that does not exist."""
    property = get_object_or_404(Property.objects.owned_by(request.user), pk=property_id)
    integration = Integration.objects.connected().in_full().filter(property=property).first()
    page: Page = Steps(request, property) if integration is None else Connection(request, property, integration)
    return page.answer()
