"""Text that is encrypted at rest, bound to its row.

AES-256-GCM; the associated data names table, column and the row's `cipher_id`, so a ciphertext copied into another row
or column does not decrypt. Several keys may be alive: the newest encrypts, each of them decrypts, and every ciphertext
names its key.
"""

import base64
import hashlib
import os
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import models

from avito_accounts.errors import Undecryptable as Undecryptable


class Sealed(str):
    """A value as the database holds it: not yet decrypted."""

    __slots__ = ()


class _Key(NamedTuple):
    id: str
    cipher: AESGCM


@lru_cache
def _keys(texts: tuple[str, ...]) -> dict[str, _Key]:
    keys = {}
    for text in texts:
        raw = hashlib.sha256(b"avito-service field key:" + text.strip().encode()).digest()
        key_id = hashlib.sha256(b"id:" + raw).hexdigest()[:8]
        keys[key_id] = _Key(key_id, AESGCM(raw))
    return keys


def key_ids() -> list[str]:
    """Names of the living keys, the newest first: they stand in every ciphertext, see `prefix`."""
    return list(_keys(tuple(settings.FIELD_ENCRYPTION_KEYS)))


def prefix(key_id: str) -> Sealed:
    """How each ciphertext of a key begins."""
    return Sealed(f"g1:{key_id}:")


def seal(text: str, *, context: str) -> Sealed:
    key = next(iter(_keys(tuple(settings.FIELD_ENCRYPTION_KEYS)).values()))
    nonce = os.urandom(12)
    ciphertext = key.cipher.encrypt(nonce, text.encode(), context.encode())
    return Sealed(prefix(key.id) + base64.urlsafe_b64encode(nonce + ciphertext).decode())


def unseal(sealed: str, *, context: str) -> str:
    """The text; raises Undecryptable when the key is unknown, or the ciphertext was changed or moved."""
    try:
        version, key_id, payload = sealed.split(":")
        raw = base64.urlsafe_b64decode(payload)
        key = _keys(tuple(settings.FIELD_ENCRYPTION_KEYS))[key_id]
        if version != "g1":
            raise Undecryptable(f"unknown version {version!r}")
        return key.cipher.decrypt(raw[:12], raw[12:], context.encode()).decode()
    except (ValueError, KeyError, InvalidTag) as error:
        raise Undecryptable(f"{context.split(':')[0]}: {type(error).__name__}") from None


def reseal(sealed: str, *, context: str) -> Sealed:
    """The same text under the newest key; raises Undecryptable."""
    return seal(unseal(sealed, context=context), context=context)


if TYPE_CHECKING:
    _Text = models.TextField[str, str]
else:
    _Text = models.TextField  # not generic at run time


class _Descriptor(models.query_utils.DeferredAttribute):
    """Decrypts at the first look: listing rows costs nothing, and a lost key breaks only what needs the value."""

    field: "EncryptedTextField"

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if isinstance(value, Sealed):
            value = unseal(value, context=self.field.context_of(instance))
            instance.__dict__[self.field.attname] = value
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        # Only with this does Python ask `__get__` before it looks into the instance itself.
        instance.__dict__[self.field.attname] = value


class EncryptedTextField(_Text):
    """Plain text in Python, ciphertext in PostgreSQL; "" is stored as "". The model needs a `cipher_id`.

    Can be neither searched nor sorted, and changes only through `save()`: `update()` refuses plain text.
    """

    descriptor_class = _Descriptor

    def context_of(self, instance: Any) -> str:
        return self.context(instance.cipher_id)

    def context(self, cipher_id: uuid.UUID) -> str:
        return f"{self.model._meta.db_table}.{self.column}:{cipher_id}"

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return Sealed(value) if value else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__.get(self.attname, "")
        if isinstance(value, Sealed) or not value:
            return value
        return seal(value, context=self.context_of(model_instance))

    def get_prep_value(self, value: Any) -> Any:
        if value and not isinstance(value, Sealed):
            raise TypeError(f"{self.name} is encrypted: assign it and save() the row")
        return super().get_prep_value(value) if value is None else str(value)


def encrypted_fields(model: type[models.Model]) -> list[EncryptedTextField]:
    """The encrypted columns of a model's own table."""
    return [field for field in model._meta.local_concrete_fields if isinstance(field, EncryptedTextField)]


def look(instance: models.Model, name: str) -> Any:
    """The value of a field; None for a ciphertext that no key opens."""
    try:
        return getattr(instance, name)
    except Undecryptable:
        return None


def cipher_id() -> models.UUIDField:  # type: ignore[type-arg]
    """The column that binds a row's ciphertexts to it."""
    return models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
