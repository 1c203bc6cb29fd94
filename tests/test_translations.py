"""Every text that people may see has a Russian translation, and the compiled catalogue is that of the source.

What others wrote and have no Russian for, such as Unfold, is translated here, too. What they have Russian for may be
said better here, as the project's catalogue wins: their text and ours, written into the catalogue by hand, stay there.

    python -m tests.test_translations

takes new texts into the catalogue (untranslated), drops old ones and compiles it. Pure Python: no gettext needed.
"""

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

from config.settings import INSTALLED_APPS

ROOT = Path(__file__).resolve().parent.parent
PO = ROOT / "locale/ru/LC_MESSAGES/django.po"
MO = PO.with_suffix(".mo")
NOT_TRANSLATED = {"tests", "bench", "sandbox"}
SHOWN = ("axes", "django_celery_beat", "simple_history", "unfold", "unfold.contrib.filters")
"""Apps of others whose pages, models and messages the back office shows."""
NOT_SHOWN = {"contrib", "locale", "management", "migrations", "static"}
SINGLE = ("_", "gettext", "gettext_lazy", "gettext_noop")
PLURAL = ("ngettext", "ngettext_lazy")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)  # a date in the file would only make it differ

Id = str | tuple[str, ...]


def ours() -> Iterator[tuple[str, str]]:
    """Name and text of all Python files and templates of the product."""
    for package in sorted(ROOT.glob("*/__init__.py")):
        if package.parent.name not in NOT_TRANSLATED:
            yield from texts_of(package.parent)
    yield from texts_of(ROOT / "templates")


def theirs() -> Iterator[tuple[str, str]]:
    for package in SHOWN:
        yield from texts_of(folder(package))


def texts_of(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.*")):
        inside = path.relative_to(root.parent).parts
        if path.suffix == ".py" and not NOT_SHOWN & set(inside[1:]):
            yield "/".join(inside), path.read_text()
        elif "templates" in inside and not NOT_SHOWN & set(inside[1:]) and path.is_file():
            # The rest of a template becomes one unindented row of placeholders, so that it reads as Python.
            lines = templatize(path.read_text(), origin=str(path)).splitlines()
            yield "/".join(inside), "\n".join(line.strip() for line in lines)


def folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def extracted() -> dict[Id, str]:
    """Each text to be translated here and a file where it stands: all of ours, of others what has no Russian yet."""
    mine, known = found_in(ours()), translated_by_others()
    return mine | {one: name for one, name in found_in(theirs()).items() if one not in mine and one not in known}


def found_in(files: Iterator[tuple[str, str]]) -> dict[Id, str]:
    found: dict[Id, str] = {}
    for name, text in files:
        calls = extract_python(BytesIO(text.encode()), dict.fromkeys((*SINGLE, *PLURAL)), [], {"encoding": "utf-8"})
        for _line, function, messages, _comments in calls:
            texts = messages if isinstance(messages, tuple) else (messages,)
            wanted = tuple(str(one) for one in texts if isinstance(one, str))[: 2 if function in PLURAL else 1]
            if wanted and all(wanted):
                found.setdefault(wanted if len(wanted) > 1 else wanted[0], name)
    return found


@cache
def translated_by_others() -> set[Id]:
    """What Django and the installed apps say in Russian themselves."""
    folders = [Path(django.__file__).parent / "conf"]
    folders += [folder(app) for app in INSTALLED_APPS if not (ROOT / app).is_dir()]
    found: set[Id] = set()
    for path in (path for one in folders for path in one.glob("locale/ru*/LC_MESSAGES/django.mo")):
        known = messages(read_mo(BytesIO(path.read_bytes())))
        found |= {one for one, message in known.items() if any(strings(message)) and not message.context}
    return found


@cache
def catalogue() -> Catalog:
    return read_po(StringIO(PO.read_text()), locale="ru")


def messages(catalog: Catalog) -> dict[Id, Message]:
    return {_id(message): message for message in catalog if message.id}


def _id(message: Message) -> Id:
    return message.id if isinstance(message.id, str) else tuple(message.id)


def strings(message: Message) -> list[str]:
    return [message.string or ""] if isinstance(message.string, str | None) else list(message.string)


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[a-z]|\{\w*\}|</?\w+>", text))


def ends(text: str) -> bool:
    """Whether it is a sentence, within quotes or not."""
    return text.rstrip("”»")[-1] in ".:!…"


def refresh() -> None:
    """Write both files anew; what is translated stays so."""
    known, fresh = messages(catalogue()) if PO.exists() else {}, Catalog(locale="ru", charset="utf-8", fuzzy=False)
    fresh.header_comment = "# Russian texts of avito-service; see tests/test_translations.py."
    fresh.creation_date = fresh.revision_date = LONG_AGO
    fresh.project, fresh.version = "avito-service", "1"
    fresh.msgid_bugs_address = fresh.last_translator = fresh.language_team = ""
    for one in sorted({*extracted(), *(translated_by_others() & set(known))}, key=str):
        fresh.add(one, known[one].string if one in known else None)
    written, compiled = BytesIO(), BytesIO()
    write_po(written, fresh, width=120, sort_output=True)
    PO.write_bytes(written.getvalue())
    catalogue.cache_clear()
    write_mo(compiled, catalogue())
    MO.write_bytes(compiled.getvalue())
    missing = [one for one, message in messages(fresh).items() if not all(strings(message))]
    print(f"{len(list(fresh))} texts, {len(missing)} to translate in {PO.relative_to(ROOT)}", *missing, sep="\n  ")  # noqa: T201


def test_texts_are_found_in_code_and_templates_of_ours_and_of_others() -> None:
    found = extracted()
    assert "There is nothing here." in found
    assert found["Search apps and models..."].startswith("unfold/templates/")
    assert any(isinstance(one, tuple) for one in found)


def test_every_text_is_translated() -> None:
    known = messages(catalogue())
    missing = {one: name for one, name in extracted().items() if one not in known or not all(strings(known[one]))}
    assert not missing, "run python -m tests.test_translations and translate what it lists"
    assert not [one for one, message in known.items() if message.fuzzy]


def test_catalogue_holds_no_text_that_is_gone() -> None:
    assert set(messages(catalogue())) - set(extracted()) - translated_by_others() == set()


def test_placeholders_survive_translation() -> None:
    for one, message in messages(catalogue()).items():
        wanted = placeholders(one if isinstance(one, str) else one[-1])
        assert [placeholders(text) for text in strings(message)] == [wanted] * len(strings(message)), one


def test_translations_are_russian_and_plain() -> None:
    for one, message in messages(catalogue()).items():
        for text in strings(message):
            assert re.search("[а-яё]", text, re.IGNORECASE), one
            assert not re.search(r"(?i)\bакаунт|листинг|уэбхук|вэбхук", text), text
            given = one if isinstance(one, str) else one[0]
            assert ends(text) == ends(given), one


def test_compiled_catalogue_is_that_of_the_source() -> None:
    source, compiled = catalogue(), read_mo(BytesIO(MO.read_bytes()))
    assert {one: strings(message) for one, message in messages(compiled).items()} == {
        one: strings(message) for one, message in messages(source).items()
    }
    assert (
        source.plural_forms
        == "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);"
    )


def test_the_contract_s_words_stand() -> None:
    known = messages(catalogue())
    assert known["Token expired. Please reconnect."].string == "Срок действия доступа истёк. Подключите заново."


def test_texts_of_the_code_are_english() -> None:
    assert not [one for one in extracted() if re.search("[а-яё]", str(one), re.IGNORECASE)]
    for name, text in ours():
        if name.endswith(".py"):
            ast.parse(text)  # what Babel could not read it would pass over in silence


if __name__ == "__main__":
    refresh()
