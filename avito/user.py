"""The calls of Avito's section "User information"."""

from collections.abc import Callable
from typing import Any

from avito import protocol
from avito.types import Balance, Owner

ME_PATH = "/core/v1/accounts/self"


class UserCalls:
    """`client.user`. All calls raise the errors of `avito.errors`; nothing here changes anything."""

    def __init__(self, call: Callable[..., Any], *, me_path: str = ME_PATH) -> None:
        self._call = call
        self._me_path = me_path

    def me(self) -> Owner:
        """Whose token this is. Needs the scope user:read.

        Source: Avito API, User, getUserInfoSelf.
        """
        return Owner.from_json(self._call(protocol.get(self._me_path)))

    def balance(self, user_id: int) -> Balance:
        """The account's wallet, in roubles. Needs user_balance:read; NotFound for another's id.

        Source: Avito API, User, getUserBalance.
        """
        return Balance.from_json(self._call(protocol.get(protocol.path("/core/v1/accounts/{}/balance/", user_id))))
