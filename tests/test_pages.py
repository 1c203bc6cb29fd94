"""Every page of the back office opens; how many there are is found out, not listed (see `tests.pages`)."""

from collections.abc import Callable

import pytest

from tests import pages
from tests.factories import make_user


@pytest.mark.django_db
def test_of_every_address_somebody_has_said_whether_it_is_a_page() -> None:
    assert pages.missed() == set()


def test_every_page_opens_with_something_in_it(demo: Callable[[], object]) -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    demo()
    pages.fill_up()
    client = pages.visitor(root)
    signed_in = [page for page in pages.every_page(root) if not page.is_for_anybody]
    opened = {page.name: client.get(page.path).status_code for page in signed_in}
    assert opened == {page.name: page.status for page in signed_in}
