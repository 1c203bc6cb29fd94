"""The back office for short-term rent: hosts see their own rows, the staff in charge all and the queue."""

from integrations_str.admin.bookings import BookingAdmin
from integrations_str.admin.common import may_enter, sees_all
from integrations_str.admin.conflicts import ConflictAdmin
from integrations_str.admin.connections import IntegrationAdmin
from integrations_str.admin.properties import PropertyAdmin
from integrations_str.admin.queue import SyncTaskAdmin

__all__ = [
    "BookingAdmin",
    "ConflictAdmin",
    "IntegrationAdmin",
    "PropertyAdmin",
    "SyncTaskAdmin",
    "may_enter",
    "sees_all",
]
