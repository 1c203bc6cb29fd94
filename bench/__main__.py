"""`python -m bench` lists the benchmarks, `python -m bench NAME [options]` runs one."""

import sys
from types import ModuleType

from bench import chats, events, inbox, presence, rent, sync_all, webhook_ack
from config.supervisor import Failed

BENCHMARKS: dict[str, ModuleType] = {
    "chats": chats,
    "events": events,
    "inbox": inbox,
    "presence": presence,
    "rent": rent,
    "sync_all": sync_all,
    "webhook_ack": webhook_ack,
}


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in BENCHMARKS:
        try:
            return int(BENCHMARKS[arguments[0]].main(arguments[1:]))
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    print("Usage: python -m bench NAME [options]    (options: python -m bench NAME --help)\n")
    for name, module in BENCHMARKS.items():
        print(f"  {name:<14} {(module.__doc__ or '').splitlines()[0]}")
    return 2 if arguments and arguments[0] not in {"-h", "--help"} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
