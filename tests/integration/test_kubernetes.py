"""The manifests of `deploy/kubernetes`, replayed: processes, asked and ended as they say."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import hitcounter
from hitcounter.config import SETTINGS, Config
from hitcounter.process.deadlines import SUPERVISOR_END_S
from tests.conftest import RunningService, StartService
from tests.integration.proxies import plain
from tests.support.load import (
    Tally,
    Target,
    Unanswered,
    ask,
    expect_exact,
    journals,
    more,
    settled,
    visiting,
    zone_at_noon,
)
from tests.support.servers import MortalStore, free_port, mortal_store
from tests.support.waiting import comes_true

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"


def manifest(name: str) -> Any:
    """Read one of the files."""
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text("utf-8"))


SPEC = manifest("statefulset")["spec"]
POD = SPEC["template"]["spec"]
(CONTAINER,) = POD["containers"]
BEFORE_STOP = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
PROBES = [f"{name}Probe" for name in ("startup", "readiness", "liveness")]
TARGETS = [Target("demo", "/"), Target("demo", "/tin-tuc/1")]


def test_the_manifests_fit_each_other_and_the_service() -> None:
    kustomization = manifest("kustomization")
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    assert kustomization["images"][0]["newTag"] == hitcounter.__version__
    names = {each["name"].removeprefix("HITCOUNTER_").lower() for each in CONTAINER["env"]}
    assert names <= set(SETTINGS)
    ports = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
    assert ports == {"http": Config().port, "operations": Config().operations_port}
    assert {CONTAINER[name]["httpGet"]["port"] for name in PROBES} == {"http"}
    assert CONTAINER["readinessProbe"]["timeoutSeconds"] > Config().store_timeout_s
    # Whatever hangs, nobody else ends the service before it does so itself.
    slept_s = int(BEFORE_STOP[1])
    assert POD["terminationGracePeriodSeconds"] > slept_s + SUPERVISOR_END_S


def test_a_namespace_that_is_restricted_admits_the_pods() -> None:
    pod, own = POD["securityContext"], CONTAINER["securityContext"]
    assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert (own["allowPrivilegeEscalation"], own["capabilities"]) == (False, {"drop": ["ALL"]})
    assert own["readOnlyRootFilesystem"]
    assert not [name for name in POD if name.startswith("host")]
    kinds = {kind for volume in POD["volumes"] for kind in volume}
    assert kinds == {"name", "configMap", "emptyDir"}
    user = f"USER {pod['runAsUser']}:{pod['runAsGroup']}"
    assert user in (KUBERNETES.parents[1] / "Dockerfile").read_text("utf-8")


class Pod:
    """A service on a volume of its own, and what a kubelet and the endpoints do with it."""

    def __init__(
        self, name: str, port: int, admin: Path, run: Callable[[], RunningService]
    ) -> None:
        """Prepare to `run` it behind a balancer, which takes orders on a socket."""
        self.ready, self.is_alive = asyncio.Event(), True
        self._name, self._port, self._admin, self._run = name, port, admin, run
        self._watching: list[asyncio.Task[None]] = []
        self.service: RunningService

    async def start(self) -> None:
        """Start it; once it has, its other probes decide."""
        self.service = await asyncio.to_thread(self._run)
        started = asyncio.Event()
        startup = asyncio.create_task(self._watch("startupProbe", started.set, self._die))
        await started.wait()
        startup.cancel()
        watched = ("readinessProbe", self._admit, self._leave), ("livenessProbe", int, self._die)
        self._watching = [asyncio.create_task(self._watch(*each)) for each in watched]

    async def delete(self, tally: Tally) -> None:
        """End it, while the news of it takes some hits to reach the balancer."""
        self.unwatch()
        within_s = POD["terminationGracePeriodSeconds"]
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            group.create_task(self._leave_after(tally, 50))
            hook = await asyncio.create_subprocess_exec(*BEFORE_STOP)
            assert await hook.wait() == 0
            assert await asyncio.to_thread(self.service.stop) == 0

    def unwatch(self) -> None:
        """Ask it no more."""
        for task in self._watching:
            task.cancel()

    async def probe(self, name: str) -> bool:
        """Ask what a probe asks, and tell whether it succeeds."""
        probe = CONTAINER[name]
        with suppress(OSError, Unanswered):  # of which a time that is over is one
            async with asyncio.timeout(probe["timeoutSeconds"]):
                answer = await ask(self._port, "GET", probe["httpGet"]["path"])
                return 200 <= answer.status < 400
        return False

    async def _watch(
        self, name: str, well: Callable[[], object], ill: Callable[[], object]
    ) -> None:
        n_failed = 0
        while True:
            n_failed = 0 if await self.probe(name) else n_failed + 1
            if n_failed == 0:
                well()
            elif n_failed >= CONTAINER[name]["failureThreshold"]:
                ill()
            await asyncio.sleep(CONTAINER[name]["periodSeconds"])

    def _admit(self) -> None:
        self._tell("ready")
        self.ready.set()

    def _leave(self) -> None:
        self._tell("drain")
        self.ready.clear()

    def _die(self) -> None:
        self.is_alive = False

    async def _leave_after(self, tally: Tally, n_hits: int) -> None:
        enough = tally.n_acked + n_hits
        await comes_true(lambda: tally.n_acked >= enough, "the balancer hears of it")
        self._leave()

    def _tell(self, state: str) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._admin))
            line.sendall(f"set server counter/{self._name} state {state}\n".encode())
            assert line.recv(1024).strip() == b""


@asynccontextmanager
async def cluster(
    store_url: str, start_service: StartService, directory: Path
) -> AsyncIterator[tuple[list[Pod], int]]:
    """Run as many pods as there should be, behind HAProxy in the place of an Ingress."""
    ports = {f"pod{n}": free_port() for n in range(SPEC["replicas"])}
    lines = [f"server {name} 127.0.0.1:{port} disabled" for name, port in ports.items()]
    settings = {"config": KUBERNETES / "hitcounter.toml", "timezone": zone_at_noon()}
    with plain("haproxy", "\n    ".join(["retries 0", *lines]), directory) as balancer:
        pods = []
        for name, port in ports.items():
            given = settings | {"redis_url": store_url, "port": port, "data_dir": directory / name}
            pods.append(Pod(name, port, directory / "admin", partial(start_service, **given)))
        try:
            for pod in pods:
                await pod.start()
                await pod.ready.wait()
            yield pods, balancer
        finally:
            for pod in pods:
                pod.unwatch()


async def roll(pods: list[Pod], tally: Tally) -> None:
    """Replace one pod after the other, from the last one on, as a StatefulSet is updated."""
    for pod in reversed(pods):
        await pod.delete(tally)
        await pod.start()
        await pod.ready.wait()
        await more(tally, "counted", 100)


async def live_through_an_outage(pods: list[Pod], store: MortalStore, tally: Tally) -> None:
    """Let the store go, and a pod in the meantime; its journal waits on its volume."""
    await store.kill()
    await more(tally, "stored", 200)
    for name in ("readinessProbe", "livenessProbe"):
        assert [await pod.probe(name) for pod in pods] == [True] * len(pods)
    replaced = pods[-1]
    await replaced.delete(tally)
    assert journals(replaced.service.data_dir)
    await replaced.start()
    assert await replaced.probe("livenessProbe")
    assert not await replaced.probe("readinessProbe"), "it knows no numbers to answer"
    await more(tally, "stored", 100)
    await store.start()
    await replaced.ready.wait()
    await more(tally, "counted", 100)


@pytest.mark.slow
async def test_a_rolling_update_and_an_outage_under_load_lose_no_request(
    start_service: StartService, tmp_path: Path
) -> None:
    tally = Tally()
    async with (
        mortal_store(tmp_path / "store") as store,
        cluster(store.url, start_service, tmp_path) as (pods, port),
    ):
        async with visiting(port, tally, TARGETS, n_clients=8, per_s=200):
            await more(tally, "counted", 100)
            await roll(pods, tally)
            await live_through_an_outage(pods, store, tally)
        for pod in pods:
            await settled(pod.service)
        assert all(pod.is_alive for pod in pods)
        assert (tally.refused, tally.unanswered) == ({}, {})
        await expect_exact(port, tally)
