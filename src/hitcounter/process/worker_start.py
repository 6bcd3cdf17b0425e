"""Where the process of a worker begins.

What serving needs is loaded from here, so that a library that this Python lacks becomes a line
that the supervisor reads, like all else that keeps a worker from serving.
"""

from hitcounter.process.handshake import loading


def main() -> None:
    """Serve as the job on standard input says."""
    with loading():
        from hitcounter.process import serving, worker
    serving.begin(worker.serve)


if __name__ == "__main__":
    main()
