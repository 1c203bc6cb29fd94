"""The same installation several times as large: every row of ours once more, with its relatives."""

import itertools
import os
from collections.abc import Iterable
from graphlib import TopologicalSorter
from typing import Any
from uuid import UUID, uuid4

from axes.models import AccessAttempt
from django.apps import apps
from django.db import models, transaction
from django_celery_beat.models import PeriodicTask

OURS = ("avito_accounts", "chats", "messenger", "integrations_str", "notifications")
OTHERS = (AccessAttempt, PeriodicTask)
KEPT = (models.DateField, models.DecimalField, models.GenericIPAddressField)
Row = models.Model


def multiply(times: int) -> None:
    """`times` copies of each row; a copy belongs to the copies of what its pattern belongs to. People stay one."""
    patterns = {model: list(model._base_manager.order_by("pk")) for model in _in_order()}
    numbers = itertools.count(1)
    with transaction.atomic():
        for _round in range(times):
            made: dict[tuple[Any, Any], Row] = {}
            for model, rows in patterns.items():
                copies = [_copy(row, made, next(numbers)) for row in rows]
                model._base_manager.bulk_create(copies)
                made |= {(model, row.pk): copy for row, copy in zip(rows, copies, strict=True)}


def _in_order() -> Iterable[type[Row]]:
    """What is pointed to comes before what points; a pair that points to one another loses the optional half."""
    ours = (model for app in OURS for model in apps.get_app_config(app).get_models())
    every: dict[type[Row], set[Any]] = {model: set() for model in (*ours, *OTHERS) if not model._meta.proxy}
    for model in every:
        for field in model._meta.concrete_fields:
            target = field.related_model
            if target in every and target is not model and not field.null:
                every[model].add(target)
    return TopologicalSorter(every).static_order()


def _copy(row: Row, made: dict[tuple[Any, Any], Row], number: int) -> Row:
    own = _unique(type(row))
    values: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if field.primary_key and not field.is_relation:
            continue
        if field.is_relation:
            relative = made.get((field.related_model, value))
            value = relative.pk if relative else value
        elif field.name in own and value is not None:
            value = _another(value, number)
        values[field.attname] = value
    return type(row)(**values)


def _unique(model: type[Row]) -> set[str]:
    """Fields whose value has to be another one; what is unique among its relatives has other relatives."""
    meta = model._meta
    rules = [rule.fields for rule in meta.constraints if isinstance(rule, models.UniqueConstraint)]
    rules += [(field.name,) for field in meta.concrete_fields if field.unique]
    names = set()
    for rule in [*rules, *meta.unique_together]:
        fields: list[Any] = [meta.get_field(name) for name in rule]
        if not any(field.is_relation for field in fields):
            names |= {field.name for field in fields if not isinstance(field, KEPT) and not field.choices}
    return names


def _another(value: Any, number: int) -> Any:
    match value:
        case int():
            return value + number * 1_000_000
        case str():
            return f"{value[:40]}-{number}"
        case UUID():
            return uuid4()
    return os.urandom(len(value))
