"""What is told apart behind a proxy: hits of people, of robots, too many of them, and floods."""

import statistics
from dataclasses import replace

from bench.contenders import hitcounter
from bench.load import Load
from bench.report import Figure
from bench.turns import Bench, Job, alternate

ADDRESSES = 10_000
ROBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
# On one site each of them sends more than two hits a second, and less than a hundred.
LIMITED_ADDRESSES = 400
VARIED_PAGES = 500  # of each site: a packet hardly ever comes twice while it is remembered
BURSTS_S = 20  # until all of them have sent what they may at once
BEHIND_A_PROXY = ("--trusted-proxies", "127.0.0.1", "--limits")


def measure_people(bench: Bench) -> None:
    """Measure what a hit takes with addresses and limits, and what takes less as it is none."""
    off, on = bench.directory("limits off"), bench.directory("limits on")
    with (
        hitcounter(bench.cores, off, *BEHIND_A_PROXY, "off") as without,
        hitcounter(bench.cores, on, *BEHIND_A_PROXY, "on") as service,
    ):
        hit = Load(bench.seconds, addresses=ADDRESSES)
        flood = Load(bench.seconds, addresses=1, is_refused=True)
        limited = Load(bench.seconds, sites=1, addresses=LIMITED_ADDRESSES)
        service.drive(Load(BURSTS_S, sites=1, addresses=LIMITED_ADDRESSES))
        jobs = [
            Job("limits off", without, hit),
            Job("limits on", service, hit),
            Job("robot", service, Load(bench.seconds, addresses=ADDRESSES, agent=ROBOT)),
            Job("limited", service, limited),
            Job("flood", service, flood),
            Job("varied flood", service, replace(flood, pages=VARIED_PAGES)),
        ]
        alternate("warm-up", jobs, 1)
        found = alternate("people", jobs, bench.runs)
    costs_us = {name: [run.service_us for run in runs] for name, runs in found.items()}
    for name, runs in found.items():
        others = [run.others for run in runs]
        bench.note(Figure("processor time, service", name, "µs/hit", costs_us[name], "", others))
    bounds = {"robot": ("limits on", "≤ 0.80"), "limited": ("limits on", "≤ 0.80")}
    bounds |= {"flood": ("limits on", "≤ 0.30"), "varied flood": ("limits on", "")}
    bounds |= {"limits on": ("limits off", "")}
    for name, (other, bound) in bounds.items():
        pairs = zip(costs_us[name], costs_us[other], strict=True)
        ratio = statistics.median(one_us / other_us for one_us, other_us in pairs)
        bench.claim(f"processor time: {name} / {other}", ratio, bound)
