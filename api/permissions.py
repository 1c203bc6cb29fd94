from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from api.roles import permissions_of


class Permitted(BasePermission):
    """The caller's role has the permission that the view needs.

    A view says `needs = "chats.use"`, and `needs_for = {"create": "accounts.manage"}` where an action needs another
    one. A view that says nothing is closed to everybody.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        action = getattr(view, "action", None)
        if action is None and request.method != "OPTIONS" and hasattr(view, "action_map"):
            return True  # a method the view does not have: let it answer 405
        needed = getattr(view, "needs_for", {}).get(action, getattr(view, "needs", None))
        return needed in permissions_of(request.user)
