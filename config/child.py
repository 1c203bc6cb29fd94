"""What stands between fork and exec of a supervised process: who it runs as, and what ends it when its supervisor dies.

    python -I -S child.py SIGNAL SUPERVISOR_PID IDENTITY COMMAND...

IDENTITY is `same`, `namespace` (root looks like an ordinary user to the command, as PostgreSQL wants it) or `nobody`.
Standard library only, and nothing slow: it runs before every start.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def end_with_parent(signum: int) -> None:
    """Have the kernel send `signum` to this process when the thread that started it ends, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def enter_namespace() -> None:
    """Become user 1000 of a new user namespace; outside of it, files and permissions stay those of the caller."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"1000 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"1000 {gid} 1")


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main(signum: str, supervisor: str, identity: str, *command: str) -> None:
    if identity == "namespace":
        enter_namespace()
    elif identity == "nobody":
        become_nobody()
    end_with_parent(int(signum))  # after the change of identity, which would forget it
    if os.getppid() != int(supervisor):
        sys.exit("the supervisor ended before this process began")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
