"""What the resources share."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import viewsets
from rest_framework.exceptions import APIException, NotFound
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from integrations_str.models import Booking, Integration, Property


class Refused(APIException):
    """What is asked for stands against what is there."""

    status_code = 409


class OwnViewSet(viewsets.GenericViewSet[Any]):
    """Rows of whoever is signed in."""

    permission_classes = [IsAuthenticated]
    lookup_value_regex = r"\d{1,18}"

    @property
    def user(self) -> User:
        user = self.request.user
        assert isinstance(user, User)  # noqa: S101  see the permission
        return user

    def handle_exception(self, exc: Exception) -> Response:
        """What was deleted, or taken off, while the request waited for its turn is as missing as what never was."""
        is_gone = isinstance(exc, Property.DoesNotExist | Booking.DoesNotExist | Integration.DoesNotExist)
        return super().handle_exception(NotFound() if is_gone else exc)


class OfPropertiesViewSet(OwnViewSet):
    """What belongs to one property, below its path."""

    queryset = Property.objects.none()
    filter_backends: list[Any] = []

    def get_queryset(self) -> QuerySet[Property]:
        return Property.objects.owned_by(self.request.user).order_by("id")

    def integration_of(self, property: Property) -> Integration:
        return get_object_or_404(Integration.objects.connected().in_full(), property=property)
