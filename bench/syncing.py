"""The measuring process of `sync_all`, beside the sandbox. Prints; ends with 1 for a broken promise."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import django
import requests

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection, connections  # noqa: E402

import avito  # noqa: E402
from avito.items import PER_PAGE_MAX  # noqa: E402
from avito.statistics import IDS_MAX  # noqa: E402
from avito_accounts import jobs, statistics, tokens  # noqa: E402
from avito_accounts.models import Account, Job  # noqa: E402
from bench import rule  # noqa: E402

SIZES = (0, 3, 12, 25, 40, 60, 98, 99, 150, 199, 200, 320, 640, 1500)
"""Active listings of the accounts, in turn: the edges of pages and batches among them."""
ONE_PAGE = 25


@dataclass(frozen=True)
class Seller:
    account: Account
    listings: int

    @property
    def fewest(self) -> int:
        """Calls that it takes: the balance, pages until a short one since Avito names no total, batches of ids."""
        return 1 + self.listings // PER_PAGE_MAX + 1 + -(-self.listings // IDS_MAX)


def control(method: str, path: str, **body: Any) -> Any:
    answer = requests.request(method, f"{settings.AVITO_API_BASE_URL}/_sandbox{path}", json=body or None, timeout=60)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def make_sellers(count: int, sizes: Sequence[int], name: str) -> list[Seller]:
    """Accounts with keys of their own and tokens at hand, each of another seller with so many active listings."""
    made = []
    for number in range(count):
        keys = {"clientId": f"{name}-{number}", "clientSecret": f"secret-{number}"}
        seller = control("POST", "/sellers", name=f"{name} {number}", **keys)
        size = sizes[number % len(sizes)]
        if size:
            control("POST", "/items", sellerId=seller["id"], count=size - 1)
        else:
            control("PATCH", f"/items/{seller['items'][0]['id']}", status="removed")
        account = Account.objects.create(
            name=f"{name} {number}",
            avito_user_id=seller["id"],
            client_id=keys["clientId"],
            client_secret=keys["clientSecret"],
        )
        tokens.access_token(account)
        made.append(Seller(account, size))
    return made


def in_threads(count: int, action: Callable[[], int]) -> int:
    def lane(_number: int) -> int:
        try:
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(lane, range(count)))


def sync_all(sellers: Iterable[Seller], lanes: int) -> int:
    """As `POST /accounts/sync-all` and the workers do it. Returns the database queries of the lanes."""
    jobs.start_run(Job.Kind.SYNC, user=None, accounts=Account.objects.filter(pk__in=[s.account.pk for s in sellers]))

    def lane() -> int:
        queries = Counter[str]()

        def count(execute: Any, sql: str, *details: Any) -> Any:
            queries["all"] += 1
            return execute(sql, *details)

        with connection.execute_wrapper(count):
            jobs.work()
        return queries["all"]

    return in_threads(lanes, lane)


def bare_loop(sellers: Sequence[Seller], lanes: int) -> None:
    """The same calls by the same client, and nothing else: no rows, no budget, no lanes to claim work."""
    waiting = [(seller.account.avito_user_id, tokens.access_token(seller.account)) for seller in sellers]
    until = statistics.today()
    since = statistics.first_missed_day(sellers[0].account, until)

    def lane() -> int:
        transport = avito.Transport(settings.AVITO_API_BASE_URL)
        while True:
            try:
                user_id, token = waiting.pop()
            except IndexError:
                transport.close()
                return 0
            client = avito.Client(token, transport)
            client.user.balance(user_id or 0)
            ids = [listing.id for listing in client.items.iter_all()]
            client.statistics.items(user_id or 0, ids, since=since, until=until)

    in_threads(lanes, lane)


def count_calls(sellers: Sequence[Seller], lanes: int) -> bool:
    """Print calls and queries for each account; is everything as it has to be?"""
    fewest = sum(seller.fewest for seller in sellers)
    print(f"{len(sellers)} accounts with {sum(s.listings for s in sellers):,} active listings, {lanes} lanes")
    print(f"  fewest calls that Avito's limits allow   {fewest:>7,}   {fewest / len(sellers):>6.2f} an account")
    good = True
    for title in ("the first time, 270 days back", "from then on"):
        control("DELETE", "/journal")
        queries = sync_all(sellers, lanes)
        journal = [call for call in control("GET", "/journal") if call["path"] != "/token"]
        refused = sum(call["status"] != 200 for call in journal)
        print(
            f"  {title:<39}  {len(journal):>7,}   {len(journal) / len(sellers):>6.2f} an account, "
            f"{len(journal) / fewest:.2f} of the fewest; {refused} refused; "
            f"{queries / len(sellers):.1f} queries an account"
        )
        good = good and not refused
    good = good and len(journal) == fewest
    wrong = [s.account.pk for s in sellers if Account.objects.get(pk=s.account.pk).ads_count != s.listings]
    if wrong:
        print(f"  WRONG: the listings of {len(wrong)} accounts were not all counted")
    return good and not wrong


def compare(sellers: Sequence[Seller], lanes: int, rounds: int) -> None:
    """Accounts a second of ours and of the bare loop, in turns."""
    print(f"\nAgainst a bare loop of the same client: {len(sellers)} accounts of {ONE_PAGE} listings, {rounds} rounds")
    sync_all(sellers, lanes)  # history is read once, and both are warm
    measured = []
    for index in range(rounds):
        seconds = {}
        for side in rule.order(index):
            begun = time.monotonic()
            sync_all(sellers, lanes) if side == "ours" else bare_loop(sellers, lanes)
            seconds[side] = time.monotonic() - begun
        measured.append(rule.Round(len(sellers) / seconds["baseline"], len(sellers) / seconds["ours"]))
        one = measured[-1]
        print(f"  {index + 1:>3}  bare {one.baseline:>7.1f}/s  ours {one.ours:>7.1f}/s  {one.ratio:.2f}x", flush=True)
    ratios = sorted(one.ratio for one in measured)
    print(f"  median {ratios[len(ratios) // 2]:.2f}x, {ratios[0]:.2f}x to {ratios[-1]:.2f}x")


def main(options: dict[str, int]) -> int:
    print("Queries an account do not depend on the number of accounts or listings:")
    good = count_calls(make_sellers(max(1, options["accounts"] // 10), SIZES, "few"), options["lanes"])
    good = count_calls(make_sellers(options["accounts"], SIZES, "many"), options["lanes"]) and good
    compare(make_sellers(max(1, options["accounts"] // 5), [ONE_PAGE], "same"), options["lanes"], options["rounds"])
    print("\nAs promised." if good else "\nBROKEN: a call was refused, superfluous or missing.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
