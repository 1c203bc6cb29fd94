"""Kinds of news for these tests, in words that the catalogue has in both languages."""

from django.utils.translation import gettext_lazy as _

import notifications

notifications.register(
    "test_fell",
    title=_("%(name)s: the tokens were not renewed. %(reason)s"),
    detail=_("Token expired. Please reconnect."),
)
notifications.register("test_returned", title=_("%(name)s: the tokens were renewed."))
notifications.register(
    "test_coded", title=_("Avito refuses: %(text)s"), words={"text": {"late": _("Avito did not answer in time.")}}
)
notifications.register("test_number", title="%(count)d%% of them", detail="100% sure")
