"""Where the process of operations begins, as a worker does in `worker_start`."""

from hitcounter.process.handshake import loading


def main() -> None:
    """Serve as the job on standard input says."""
    with loading():
        from hitcounter.process import operations, serving
    serving.begin(operations.serve)


if __name__ == "__main__":
    main()
