"""How much of the memory our own store may take."""

from pathlib import Path

import pytest

from hitcounter.process.memory import half_bytes

LIMIT = 256 << 20


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/memory.max": f"{LIMIT}\n"},
        {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{LIMIT}\n"},
        {
            "proc/self/cgroup": "0::/system.slice/hitcounter.service\n",
            "sys/fs/cgroup/system.slice/hitcounter.service/memory.max": f"{LIMIT}\n",
        },
        {
            "proc/self/cgroup": "5:cpuset:/\n4:memory:/docker/a:b\n",
            "sys/fs/cgroup/memory/docker/a:b/memory.limit_in_bytes": f"{LIMIT}\n",
            "sys/fs/cgroup/memory.max": f"{2 * LIMIT}\n",
        },
    ],
)
def test_the_store_takes_half_of_what_its_container_or_unit_may(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert half_bytes(written(tmp_path, files)) == LIMIT // 2


def test_without_a_limit_it_takes_half_of_the_machine(tmp_path: Path) -> None:
    n_kb = int(Path("/proc/meminfo").read_text().split()[1])
    found = half_bytes(written(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"}))
    assert abs(found - n_kb * 1024 // 2) < n_kb * 1024 // 50
