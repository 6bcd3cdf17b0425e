"""One schedule, run: workers, hits and faults on one virtual clock, and what came of it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from hitcounter.metrics import Metrics
from hitcounter.store.keys import ROBOTS
from tests.simulation.commands import Command
from tests.simulation.disk import Disk
from tests.simulation.events import Events
from tests.simulation.ledger import (
    SITES,
    Ledger,
    Merged,
    Sent,
    Taken,
    page_keys,
    robot_keys_on,
    site_keys_on,
)
from tests.simulation.network import Network
from tests.simulation.schedule import Correction, Fault, Hit, Merge, Reaction, RobotHit, Schedule
from tests.simulation.worker import SimulatedWorker

POLL_S = 0.2
LONGEST_DRAIN_S = 40.0
LATE_S = 0.5
HANG_UPS = 0.03
LONGEST_RESTART_S = 0.6
GRACES_S = (0.02, 0.3, 1.0)


class World:
    """Everything that a schedule needs, and what it does to it."""

    def __init__(self, schedule: Schedule, metrics: Metrics, *, is_logging: bool) -> None:
        """Set up a store, a disk and workers; nothing has happened yet."""
        self._loop = asyncio.get_running_loop()
        self._schedule = schedule
        self._chance = random.Random(schedule.seed)
        self._faults: Counter[str] = Counter()
        self._n_coming = 0  # faults and workers that are about to begin
        self._n_started = 0
        self._marked: object = None  # who did what a fault reacts to
        self._days = [site_keys_on(schedule.n_lanes, schedule.date, days) for days in (0, 1)]
        self._robots = [robot_keys_on(schedule.n_lanes, schedule.date, days) for days in (0, 1)]
        self._pages = page_keys(schedule.n_lanes)
        self.workers: list[SimulatedWorker] = []
        self._commands: list[Command] = []
        self.metrics = metrics
        self.events = Events(schedule.reactions, self._react, is_logging=is_logging)
        self.network = Network(self._faults, self._chance, self.events, schedule.timeout_s)
        self.disk = Disk(self._faults, self._chance, self.events)
        self.ledger = Ledger(self.events)
        self.problems = self.ledger.problems
        self.is_always = schedule.is_always
        self.kept_window_s = schedule.kept_window_s
        self.n_lanes = schedule.n_lanes
        self._sudden: dict[str, Callable[[Fault], None]] = {
            "cut": lambda _: self.network.cut(),
            "fail_over": self._fail_over,
            "break_journal": self._break_journal,
            "kill_worker": self._kill_worker,
            "kill_all_workers": self._kill_all_workers,
            "close_worker": self._close_worker,
            "replace_worker": self._replace_worker,
        }
        self._begins: dict[str, Callable[[Fault], None]] = {
            "kill_store": lambda _: self.network.restart(self.network.store),
            "lose_power": self._lose_power,
            "split": self._split,
        }

    async def run(self) -> None:
        """Let everything happen, and then end and drain."""
        for _ in range(self._schedule.n_workers):
            self._start_worker()
        for hit in self._schedule.hits:
            self._later(hit.at_s, self._hit, hit)
        for robot in self._schedule.robots:
            self._later(robot.at_s, self._robot_hit, robot)
        for correction in self._schedule.corrections:
            self._plan(correction)
        if self._schedule.merge is not None:
            self._plan_merge(self._schedule.merge)
        for at_s, fault in self._schedule.faults:
            self._later(at_s, self._begin, fault)
        await asyncio.sleep(self._schedule.end_s)
        self.events.tell("the end: drain")
        await self._drain()
        if self._schedule.restarts:
            for worker in list(self.workers):
                worker.close(max(GRACES_S))
            await self._drain()
        await self._command_again()
        self.network.store.expire()
        self.network.strand_no_longer()
        await asyncio.sleep(LATE_S)
        self._check_writers()
        if any(f":{ROBOTS}" in key for key in self.network.store.values):
            self.events.note("robots counted")
        is_forgetful = self.events.counts["power lost: commits forgotten"] > 0
        self.ledger.settle_ids(keeps_claims=not is_forgetful)
        is_forgetful |= self.events.counts["split"] > 0
        self.ledger.settle_corrections(keeps_commits=not is_forgetful)

    def _check_writers(self) -> None:
        for worker in self.workers:
            if worker.writer.waiting.n_hits:
                self.problems.append(f"worker {worker.number} believes that hits wait")

    async def stop(self) -> None:
        """End all workers without a word."""
        tasks = [task for worker in self.workers for task in worker.tasks]
        tasks += [command.running for command in self._commands]
        for worker in list(self.workers):
            worker.end()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hit(self, hit: Hit) -> None:
        serving = [worker for worker in self.workers if not worker.is_closing]
        if not serving:
            return
        worker = serving[int(hit.pick * len(serving))]
        day = self._days[self._loop.time() >= self._schedule.midnight_at_s]
        site = self._site_of(hit)
        page = None if hit.page is None else self._pages[site][hit.page]
        sent = Sent.of(day[site], page, hit.id)
        self.ledger.send(worker, sent)
        if sent.id is None and sent in worker.open and self._chance.random() < HANG_UPS:
            self.ledger.hang_up(worker, sent)

    def _site_of(self, hit: Hit) -> int:
        """Look the name of a site up as the worker that a hit arrives at does by now."""
        merge = self._schedule.merge
        if merge is None or hit.site != merge.old:
            return hit.site
        aliased_at_s = merge.aliased_at_s + LONGEST_RESTART_S * hit.pick
        return merge.new if self._loop.time() >= aliased_at_s else hit.site

    def _robot_hit(self, hit: RobotHit) -> None:
        serving = [worker for worker in self.workers if not worker.is_closing]
        if serving:
            writer = serving[int(hit.pick * len(serving))].writer
            day = self._robots[self._loop.time() >= self._schedule.midnight_at_s]
            self.ledger.send_robot(writer, day[hit.site])

    def _plan(self, correction: Correction) -> None:
        """Let a correction be sent each time, and killed where it still runs some time later."""
        (at_s, _), *_ = correction.times
        site = self._days[at_s >= self._schedule.midnight_at_s][correction.site]
        page = None if correction.page is None else self._pages[correction.site][correction.page]
        number = len(self.ledger.corrections)
        taken = Taken(
            number,
            correction.site,
            site.date,
            page.path if page else None,
            correction.minus,
            site.counted if page is None else (*site.counted, page.key),
        )
        self.ledger.correct(taken)
        for at_s, killed_after_s in correction.times:
            self._later(at_s, self._command, taken, killed_after_s)

    def _plan_merge(self, merge: Merge) -> None:
        merged = Merged(SITES[merge.old], SITES[merge.new], self.n_lanes)
        self.ledger.merged = merged
        for at_s, killed_after_s in merge.times:
            self._later(at_s, self._command, merged, killed_after_s)

    def _command(self, doing: Taken | Merged, killed_after_s: float) -> None:
        command = Command(self, doing, is_aside=self._chance.random() < 0.5)
        self._commands.append(command)
        self._later(killed_after_s, command.kill)

    async def _command_again(self) -> None:
        """Send all commands once more, now that nothing disturbs them."""
        self.events.react_no_longer()
        for taken in self.ledger.corrections:
            await self._undisturbed(taken)
        if self.ledger.merged is not None:
            await self._undisturbed(self.ledger.merged)
            self.ledger.check_merge(self.ledger.merged, self.network.store.values)

    async def _undisturbed(self, doing: Taken | Merged) -> None:
        command = Command(self, doing, is_aside=False)
        self._commands.append(command)
        await asyncio.wait([command.running])

    async def _drain(self) -> None:
        deadline_s = self._loop.time() + LONGEST_DRAIN_S
        while waiting := self._waits_for():
            if self._loop.time() > deadline_s:
                self.problems.append(f"it does not drain: {waiting}")
                return
            await asyncio.sleep(POLL_S)

    def _waits_for(self) -> str:
        """Say what is not as it should be in the end; nothing if all is."""
        if self._n_coming or self._faults.total():
            return f"faults {dict(self._faults)}"
        for worker in self.workers:
            if worker.open or worker.is_closing or worker.writer.lanes.is_away:
                return f"worker {worker.number} has {len(worker.open)} hits"
            if worker.line.is_ahead_of(self.network.store):
                return f"worker {worker.number} has to send again"
        return f"journals {[*self.disk.files]}" if self.disk.files else ""

    def _start_worker(self) -> None:
        self._n_started += 1
        self.workers.append(SimulatedWorker(self, self._n_started))

    def ended(self, worker: SimulatedWorker) -> None:
        """Start another worker if one is missing."""
        self.workers.remove(worker)
        self._later(LONGEST_RESTART_S * self._chance.random(), self._start_missing_worker)

    def _start_missing_worker(self) -> None:
        if len(self.workers) < self._schedule.n_workers:
            self._start_worker()

    def _later(self, after_s: float, call: Callable[..., None], *args: object) -> None:
        """Have something done that the drain waits for."""
        self._n_coming += 1
        self._loop.call_later(after_s, self._now, call, *args)

    def _now(self, call: Callable[..., None], *args: object) -> None:
        self._n_coming -= 1
        call(*args)

    def _react(self, reaction: Reaction, by: object) -> None:
        self._later(reaction.after_s, self._begin, reaction.fault, by)

    def _begin(self, fault: Fault, by: object = None) -> None:
        self.events.tell("FAULT", fault.name, f"for {fault.for_s:.3f} s")
        self._marked = by
        if fault.name in self._sudden:
            self._sudden[fault.name](fault)
            return
        for_s = fault.for_s
        if fault.name == "split":
            if self.network.aside is not None:
                return
            for_s = min(for_s, 0.5 * self.kept_window_s)
        self._faults[fault.name] += 1
        if fault.name in self._begins:
            self._begins[fault.name](fault)
        self._later(for_s, self._heal, fault)

    def _heal(self, fault: Fault) -> None:
        self.events.tell("healed:", fault.name)
        self._faults[fault.name] -= 1
        if self._faults[fault.name]:
            return
        if fault.name == "stall":
            self.network.resume()
        elif fault.name == "split":
            self.network.join()
        elif fault.name in ("kill_store", "lose_power"):
            self.events.note("store is back")

    def _lose_power(self, fault: Fault) -> None:
        store = self.network.store
        self.network.restart(store)
        if self.is_always:
            store.sync()
        self._forget(fault)

    def _forget(self, fault: Fault) -> None:
        synced_until_s = self._loop.time() - self._schedule.lag_s
        n_lost = self.network.store.lose_power(synced_until_s, fault.pick)
        event = "commits forgotten" if n_lost else "nothing forgotten"
        self.events.note(f"power lost: {event}", n_lost)
        files = self.disk.files.values() if n_lost else ()
        if any(file.is_adopted and file.owner for file in files):
            self.events.note("power lost: while a journal is replayed")
        if any(file.owner and not file.is_adopted for file in files):
            self.events.note("power lost: while a living writer has a journal")

    def _fail_over(self, fault: Fault) -> None:
        """Go on with a replica that lacks the last moments."""
        self.network.restart(self.network.store)
        self._forget(fault)

    def _split(self, fault: Fault) -> None:
        """Go on with such a replica, while some still talk to the old store."""
        self.events.note("split")
        self.network.split()
        self._forget(fault)

    def _break_journal(self, _: Fault) -> None:
        self.disk.breaks += 1

    def _picked(self, fault: Fault) -> SimulatedWorker | None:
        for worker in self.workers:
            if worker is self._marked:
                return worker
        return self.workers[int(fault.pick * len(self.workers))] if self.workers else None

    def _kill_worker(self, fault: Fault) -> None:
        worker = self._picked(fault)
        if worker is not None:
            self._kill(worker)

    def _kill_all_workers(self, _: Fault) -> None:
        for worker in list(self.workers):
            self._kill(worker)

    def _kill(self, worker: SimulatedWorker) -> None:
        if worker.may_die():
            worker.kill()
        else:
            self.events.note("death put off", worker.number)

    def _close_worker(self, fault: Fault) -> None:
        worker = self._picked(fault)
        if worker is not None:
            worker.close(self._chance.choice(GRACES_S))

    def _replace_worker(self, fault: Fault) -> None:
        """Start the successor before its predecessor ends."""
        worker = self._picked(fault)
        if worker is not None and not worker.is_closing:
            self._start_worker()
            worker.close(self._chance.choice(GRACES_S))
