"""Conflicts between bookings."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import mixins, serializers

from api.serializers import ModelSerializer
from integrations_str.api.common import OwnViewSet
from integrations_str.models import Conflict


class ConflictSerializer(ModelSerializer):
    """`to` exclusive, as in bookings."""

    id = serializers.IntegerField(read_only=True)
    property_id = serializers.IntegerField(read_only=True)
    bookings = serializers.SerializerMethodField()

    class Meta:
        model = Conflict
        fields = ["id", "property_id", "bookings", "since"]
        read_only_fields = fields

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        dates = {"from": serializers.DateField(source="start"), "to": serializers.DateField(source="end")}
        return super().get_fields() | dates

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_bookings(self, conflict: Conflict) -> list[int]:
        return [conflict.first_id, conflict.second_id]


class ConflictViewSet(mixins.ListModelMixin, OwnViewSet):
    """Bookings that claim the same nights, until one of them is cancelled or moved."""

    queryset = Conflict.objects.none()
    serializer_class = ConflictSerializer
    filter_backends: list[Any] = []

    def get_queryset(self) -> QuerySet[Conflict]:
        return Conflict.objects.owned_by(self.request.user).filter(solved_at=None).order_by("id")
