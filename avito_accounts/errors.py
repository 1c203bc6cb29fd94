"""Why an account cannot be used."""


class AccountUnusable(Exception):
    """Nothing was asked of Avito, since nothing could come of it."""


class AccountNotAuthorized(AccountUnusable):
    """The account has neither tokens nor keys of its own, or no number at Avito yet."""


class ReconnectRequired(AccountUnusable):
    """The authorisation is dead for good: a person has to give consent again."""


class MissingAvitoSecrets(AccountUnusable):
    """The installation has no id or secret of an OAuth application."""


class AuthorizationRefused(Exception):
    """An OAuth flow ended without a connection; `code` is stable, `account_id` is known once the state was good."""

    def __init__(self, code: str, account_id: int | None = None) -> None:
        super().__init__(code)
        self.code, self.account_id = code, account_id
