"""The first lines of the program.

A service that starts takes half a second to load, and is sent signals meanwhile. A reload waits
until there is something to reload, and an end is the end at once: nothing is started yet. All other
commands keep what the system does on a signal.
"""

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        if os.getpid() == 1:
            from hitcounter.process import init

            init.go_on_in_a_child()
    from hitcounter import cli

    cli.main()


if __name__ == "__main__":
    main()
