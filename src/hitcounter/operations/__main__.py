"""Where the process of operations begins, as a worker does in `worker_start`."""

from hitcounter.job import refuse


def main() -> None:
    """Serve as the job on standard input says."""
    try:
        from hitcounter.operations import process
    except ImportError as error:
        refuse(error)
    process.main()


if __name__ == "__main__":
    main()
