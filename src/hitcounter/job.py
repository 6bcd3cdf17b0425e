"""What a supervisor and its workers say to each other."""

from dataclasses import dataclass
from pathlib import Path

from hitcounter.config import Config

READY = "ready"
# The exit code of a worker that failed before it served: starting it again would not help.
FAILED_TO_START = 3


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to serve; goes through its standard input."""

    worker_id: int
    config: Config
    store_url: str
    listener_fd: int
    metrics_dir: Path
