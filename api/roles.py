"""Roles are Django groups; what a role may do is this table."""

from typing import Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, Group, User
from django.db.models import prefetch_related_objects

Permission = Literal["accounts.read", "accounts.manage", "messenger.use", "chats.use"]
Role = Literal["admin", "director", "operator"]

PERMISSIONS: dict[Role, tuple[Permission, ...]] = {
    "admin": ("accounts.read", "accounts.manage", "messenger.use", "chats.use"),
    "director": ("accounts.read", "messenger.use", "chats.use"),
    "operator": ("accounts.read", "messenger.use", "chats.use"),
}
FOREIGN_PREFIX = "CALLCENTRE_"
HOSTS = "host"
"""A group beside the roles: its people run their own properties in the back office. The API needs no group for that."""


def role_of(user: AbstractBaseUser | AnonymousUser) -> Role | None:
    """The widest role the user holds; a superuser is an admin; None for nobody and for people without a role."""
    if not isinstance(user, User) or not user.is_active:
        return None
    if user.is_superuser:
        return "admin"
    held = _groups_of(user)
    return next((role for role in PERMISSIONS if role in held), None)


def permissions_of(user: AbstractBaseUser | AnonymousUser) -> tuple[Permission, ...]:
    role = role_of(user)
    return PERMISSIONS[role] if role else ()


def is_host(user: AbstractBaseUser | AnonymousUser) -> bool:
    return isinstance(user, User) and user.is_active and HOSTS in _groups_of(user)


def _groups_of(user: User) -> set[str]:
    """One query for each user that is loaded, however often a page asks."""
    prefetch_related_objects([user], "groups")
    return {group.name for group in user.groups.all()}


def role_named(claim: object) -> Role | None:
    """The role that a token's claim means: its own name, or `CALLCENTRE_<NAME>`; None for anything else."""
    if not isinstance(claim, str):
        return None
    name = claim.removeprefix(FOREIGN_PREFIX).lower() if claim.startswith(FOREIGN_PREFIX) else claim
    return next((role for role in PERMISSIONS if role == name), None)


def set_role(user: User, role: Role | None) -> None:
    """Make `role` the only role the user has."""
    held = set(user.groups.filter(name__in=PERMISSIONS).values_list("name", flat=True))
    wanted = {role} if role else set()
    if held != wanted:
        user.groups.remove(*Group.objects.filter(name__in=held - wanted))
        user.groups.add(*Group.objects.filter(name__in=wanted))
