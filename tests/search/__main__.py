"""`make explore`: go through every state that some writers, hits and faults lead to.

make explore                                1 writer, 3 hits, 3 faults
make explore WRITERS=2 HITS=2 FAULTS=1      2 writers with 2 hits each, 1 fault
make explore OTHERS=1 HITS=2 FAULTS=2       a person, a robot and a correction, 2 faults
"""

import argparse
import sys
import time

from tqdm import tqdm

from tests.search.search import search


def main() -> int:
    """Search as far as the command line says; return 1 if anything goes wrong, and tell how."""
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--hits", type=int, default=3, help="for each writer, up to 4")
    parser.add_argument("--faults", type=int, default=3)
    parser.add_argument("--others", action="store_true", help="robots and a correction too")
    args = parser.parse_args()
    began_at_s = time.monotonic()
    with tqdm(unit="state") as bar:
        found = search(
            args.writers, args.hits, args.faults, seen=bar.update, has_others=args.others
        )
    print(found, f"{time.monotonic() - began_at_s:.0f} s", sep="\n")  # noqa: T201 -- what was asked
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
