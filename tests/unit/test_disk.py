"""What a power loss must not take reaches the disk, and a file is replaced as a whole."""

import fcntl
import resource
from pathlib import Path

import pytest

from hitcounter import disk


def test_the_stronger_sync_of_a_system_is_used_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.sync_directory(tmp_path)
    # Any harmless operation stands for it; what fails was called.
    monkeypatch.setattr(disk, "_FULL_SYNC", fcntl.F_GETFD)
    disk.sync_directory(tmp_path)
    monkeypatch.setattr(disk, "_FULL_SYNC", -1)
    with pytest.raises(OSError, match="Invalid argument"):
        disk.sync_directory(tmp_path)


def test_a_file_is_replaced_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first", b"2"):
        disk.replace(path, content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_finds_room_for_a_part_only_stays_as_it_was(tmp_path: Path) -> None:
    path, limit = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    disk.replace(path, b"first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))  # as on a disk that gets full
    try:
        with pytest.raises(OSError, match="File too large"):
            disk.replace(path, bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
