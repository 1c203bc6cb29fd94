"""Every page of the back office is known, and opens with nothing in it; full ones: see `tests.test_page_costs`."""

import re

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from api.roles import HOSTS
from tests import pages
from tests.factories import make_user

ADVICE = re.compile(r'<p class="[^"]*\btext-center\b[^"]*">\s*[^<]{30,}</p>')


@pytest.mark.django_db
def test_of_every_address_somebody_has_said_whether_it_is_a_page() -> None:
    assert pages.missed() == set()


@pytest.mark.django_db
def test_a_new_installation_has_every_page_and_its_lists_say_what_to_do() -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    client = pages.visitor(root)
    every = [page for page in pages.every_page(root) if not page.is_for_anybody]
    answers = {page: client.get(page.path) for page in every}
    assert [page.name for page, answer in answers.items() if answer.status_code != page.status] == []
    lists = {page.name: answer for page, answer in answers.items() if page.kind == "list"}
    empty = {name: answer.content.decode() for name, answer in lists.items() if not answer.context["cl"].result_count}
    assert len(empty) > 12
    assert [name for name, text in empty.items() if not ADVICE.search(text)] == []


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["admin", "director", "operator", HOSTS])
def test_whatever_the_sidebar_offers_opens(role: str) -> None:
    client, user = Client(), make_user("somebody", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    offered = re.findall(r'<a href="(/admin/[^"]*)" class="flex h-\[38px\]', client.get("/admin/").content.decode())
    assert len(offered) > 4
    assert {path: client.get(path).status_code for path in offered} == dict.fromkeys(offered, 200)
