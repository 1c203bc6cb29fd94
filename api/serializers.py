"""Serializers that speak camelCase.

The names change where fields are made, so bodies, the `attr` of errors and the schema agree without any rewriting of
rendered data, and the keys of data (a message's content, a map of links) stay as they are.
"""

import re
from typing import Any

from rest_framework import serializers


def camelize(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


class CamelFields(serializers.Serializer[Any]):
    """Mixin: each field `some_name` is known outside as `someName`."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {camelize(name): _renamed(name, field) for name, field in super().get_fields().items()}


def _renamed(name: str, field: Any) -> Any:
    if camelize(name) == name:
        return field
    if isinstance(field, serializers.SerializerMethodField):
        field.method_name = field.method_name or f"get_{name}"
    elif field.source is None:
        field.source = name
    return field


class Serializer(CamelFields):
    """A plain serializer in camelCase."""


class ModelSerializer(CamelFields, serializers.ModelSerializer[Any]):
    """A model's serializer in camelCase."""
