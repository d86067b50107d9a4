"""Two servers on one prefix of a real Kafka broker and one catalog in PostgreSQL, under load, while they are killed and
held up and the broker is killed: afterwards every event counts once in either state, the states are those of a server
that nothing happened to, and a `read_committed` consumer sees each record of the repartition topic, and each row of an
aggregated dataset, once: in its topic for others and in the logs of two pipelines that follow each other on its rows.

    python integration/storm.py           # at length: 1,000,000 events, 110 SIGKILLs, 10 broker kills, 10 pauses
    python integration/storm.py --events 20000 --kills 4 --broker-kills 1 --pauses 1

A recovery is warm: a server that is killed when both are at rest, each ready and with its share of the slices, is
started at once on its own disk, and has recovered when it answers with every event in state that it had acknowledged.
That takes an owner of the work. Where the other server owns it and is held up, as it may be in a pause, the group waits
for it as long as a member may be silent; kills in pauses are told apart, as takeovers. So are kills before the servers
are at rest again, when slices come to them that they have not had on their disks, as kills in moves.

With one slice whoever takes over has followed, and its state is there. With several the servers take checkpoints, and a
slice that moves comes from the newest one and from what the log has since (`restored`: how often).

Ends with one JSON line: events, sigkills, broker_kills, pauses, lost, doubled, restored, recoveries (how many were
warm), answers_p99_s (the first answer out of its state), recovery_p50_s, recovery_p99_s, recovery_most_s,
takeover_most_s, moves, move_most_s, seconds, faults.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Server
from kafka_broker import Broker
from postgres_server import Postgres
from shop import SOURCE, START, USERS, micros_text
from surfaces import share
from thyme import positions

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "storm"
SECOND = 1_000_000
# Longer than the broker lets a transaction stand open, and than a member of a group may be silent (10 s): whoever stood
# still is fenced when it comes back.
PAUSE_S = 12.0
# How often each slice is stored, where there are several.
CHECKPOINT_S = 10
# How long anything may take on a slow machine.
PATIENCE_S = 600
CRATES = ["--release", "--workspace", "--exclude", "thyme-python", "--exclude", "thyme-extract"]
# The same program as that of `make test-rust`.
CARGO = ["cargo", "--config", "tools/tests.toml", "test", *CRATES]
INSPECT = [*CARGO, "--test", "crash_points", "--quiet", "--", "output"]
AGGREGATED = """
from thyme import lit


@dataset(index=True, version=1, emit=True)
class UserCount:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int

    @pipeline(version=1)
    @inputs(Order)
    def compute(cls, orders):
        return orders.groupby("user").aggregate(n=Count(window="forever"))


@dataset(index=True, version=1)
class UserSteps:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    rows: int
    total: int

    @pipeline(version=1)
    @inputs(UserCount)
    def compute(cls, counts):
        return counts.groupby("user").aggregate(rows=Count(window="forever"), total=Sum(of="n", window="forever"))


@dataset(index=True, version=1)
class AllSteps:
    scope: str = field(key=True)
    ts: datetime = field(timestamp=True)
    rows: int
    total: int

    @pipeline(version=1)
    @inputs(UserSteps)
    def compute(cls, steps):
        every = steps.assign(scope=lit("all")).groupby("scope")
        return every.aggregate(rows=Count(window="forever"), total=Sum(of="rows", window="forever"))


@featureset
class Steps:
    user: str
    rows: int = feature(ref=UserSteps.rows)
    total: int = feature(ref=UserSteps.total)


@featureset
class Together:
    scope: str
    rows: int = feature(ref=AllSteps.rows)
    total: int = feature(ref=AllSteps.total)
"""
# Rows come up to an hour late, and more than that where one loader waits for its server and the other does not.
DEFINITIONS = SOURCE.replace('max_lateness="6h"', 'max_lateness="400d"') + AGGREGATED
TOPICS = ["Order.v1", "Order.v1.by.user", "UserCount.v1.compute.v1"]


@dataclass(frozen=True)
class Goal:
    events: int
    kills: int
    broker_kills: int
    pauses: int
    # Of the work, which the servers share.
    slices: int = 1


@dataclass
class Sent:
    """What the log has acknowledged; shared by the loaders. Every harm has a share of the events, so that none is done
    when all is sent."""

    goal: int
    changed: threading.Condition = field(default_factory=threading.Condition)
    released: int = 0
    next_id: int = 0
    rows: list[tuple[str, int, float]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def take(self, count: int) -> tuple[int, int]:
        """Ids to send; none, when all are."""
        with self.changed:
            self.changed.wait_for(lambda: self.next_id < self.released or self.released == self.goal)
            first, self.next_id = self.next_id, min(self.next_id + count, self.released)
            return first, self.next_id

    def release(self, until: int) -> None:
        with self.changed:
            self.released = until
            self.changed.notify_all()

    def acknowledged(self, rows: list[tuple[str, int, float]]) -> None:
        with self.changed:
            self.rows.extend(rows)
            self.changed.notify_all()

    def failed(self, error: BaseException) -> None:
        with self.changed:
            self.failures.append(error)
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            is_over = self.changed.wait_for(lambda: len(self.rows) >= count or self.failures, timeout=PATIENCE_S)
        assert is_over and not self.failures, self.failures or f"{len(self.rows)} of {count} events in {PATIENCE_S} s"


class Loader:
    """Sends rows to one server, again and again where that is killed, until all are sent."""

    def __init__(self, server: Server, sent: Sent, batch: int, seed: int) -> None:
        self.server, self.sent, self.batch, self.chance = server, sent, batch, random.Random(seed)
        # What this server has acknowledged.
        self.position = ""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self.server.client(retry_for=PATIENCE_S) as client:
                while True:
                    first, end = self.sent.take(self.chance.randrange(1, self.batch))
                    if first == end:
                        return
                    rows = [self._row(number) for number in range(first, end)]
                    result = client.log("Order", [as_order(*numbered) for numbered in enumerate(rows, first)])
                    assert result.accepted == len(rows) and not result.rejected, result
                    self.position = positions.merge([self.position, result.position])
                    self.sent.acknowledged(rows)
                    time.sleep(self.chance.uniform(0, 0.1))
        except BaseException as error:
            self.sent.failed(error)

    def _row(self, number: int) -> tuple[str, int, float]:
        at = START + number * SECOND - self.chance.randrange(3_600) * SECOND
        return self.chance.choice(USERS), at, self.chance.choice([0.1, 1e9, 33.3]) * self.chance.randrange(1, 1000)


def as_order(number: int, row: tuple[str, int, float]) -> dict[str, Any]:
    user, at, amount = row
    return {"order_id": number, "ts": micros_text(at), "user": user, "amount": amount, "city": "Oslo"}


class Storm:
    def __init__(self, directory: Path, goal: Goal, broker: Broker, seed: int) -> None:
        self.directory, self.goal, self.chance = directory, goal, random.Random(seed)
        self.broker, self.postgres = broker, Postgres()
        self.done = dict.fromkeys(["sigkills", "broker_kills", "pauses"], 0)
        # Seconds to the first answer, and to that with everything.
        self.answers: list[float] = []
        self.recoveries: list[float] = []
        self.takeovers: list[float] = []
        self.moves: list[float] = []
        self.faults: list[str] = []
        self.servers: list[Server] = []
        self.loaders: list[Loader] = []
        self.sent = Sent(goal.events)

    def start(self) -> None:
        is_shared = self.goal.slices > 1
        first, second = self._server("one", is_shared).start(), self._server("two", is_shared)
        done = first.commit(DEFINITIONS)
        assert done.returncode == 0, done.stderr
        second.start()

    def _server(self, name: str, takes_checkpoints: bool = False) -> Server:
        folder = self.directory / name
        folder.mkdir()
        env = {**self.broker.log(PREFIX, self.goal.slices), "THYME_CATALOG__URL": self.postgres.url()}
        if takes_checkpoints:
            env["THYME_CHECKPOINTS__URL"] = f"file://{self.directory}/store"
            env["THYME_CHECKPOINTS__INTERVAL_S"] = str(CHECKPOINT_S)
        self.servers.append(Server(folder, env=env))
        return self.servers[-1]

    def run(self) -> None:
        goal = self.goal
        deck = ["kill"] * (goal.kills - goal.pauses) + ["broker"] * goal.broker_kills + ["pause"] * goal.pauses
        self.chance.shuffle(deck)
        share = goal.events // (len(deck) + 1)
        batch = max(2, min(4_000, share // 8))
        self.loaders = [Loader(server, self.sent, batch, which) for which, server in enumerate(self.servers)]
        for number, harm in enumerate(deck):
            self.sent.release((number + 1) * share)
            self.sent.wait_for(number * share + self.chance.randrange(share // 2))
            began = time.monotonic()
            getattr(self, f"_{harm}")()
            print(f"{number + 1} of {len(deck)}: {harm}, {time.monotonic() - began:.1f} s", file=sys.stderr)
        self.sent.release(goal.events)
        self.sent.wait_for(goal.events)

    def _kill(self) -> None:
        is_warm = at_rest(self.servers)
        answered, recovered = self._recover(self.chance.randrange(2))
        if is_warm:
            self.answers.append(answered)
            self.recoveries.append(recovered)
        else:
            self.moves.append(recovered)

    def _recover(self, which: int) -> tuple[float, float]:
        """Kills a server and starts it: the seconds to its first answer, and to one with all it had acknowledged."""
        server, known = self.servers[which], self.loaders[which].position
        if (ended := server.process.poll()) is None:
            server.kill()
        else:
            self.faults.append(f"{server.directory.name}: died of {ended} before it was killed: {server.last_words()}")
        started = time.monotonic()
        server.launch()
        until_answered(server, "")
        answered = time.monotonic() - started
        until_answered(server, known)
        self.done["sigkills"] += 1
        return answered, time.monotonic() - started

    def _broker(self) -> None:
        self.broker.tell("kill")
        time.sleep(self.chance.uniform(0.1, 2.0))
        self.broker.tell("start")
        self.done["broker_kills"] += 1

    def _pause(self) -> None:
        which = self.chance.randrange(2)
        held_up = self.servers[which].process
        held_up.send_signal(signal.SIGSTOP)
        until = time.monotonic() + PAUSE_S
        # The other one takes over, and is killed on the way.
        self.takeovers.append(self._recover(1 - which)[1])
        time.sleep(max(0.0, until - time.monotonic()))
        held_up.send_signal(signal.SIGCONT)
        self.done["pauses"] += 1

    def check(self) -> dict[str, Any]:
        for server in self.servers:
            server.stop()
        # Each alone, so that nobody is fenced while it catches up; the last one begins with an empty disk, and with the
        # log only.
        self._server("fresh")
        digests, steps = [], []
        lost = doubled = 0
        for server in self.servers:
            server.start()
            until_answered(server, positions.merge(loader.position for loader in self.loaders))
            missing, extra = self._compare(server)
            lost, doubled = lost + missing, doubled + extra
            steps.append(self._steps(server))
            rebuilt = server.data("rebuild")
            digests.append(rebuilt["state_digest"])
            if not rebuilt["equal"]:
                self.faults.append(f"{server.directory.name}: the state is not what its log gives: {rebuilt}")
            if server is self.servers[-1]:
                output, restored = self._output(), self._restored(server)
            server.stop()
        if (restored > 0) != (self.goal.slices > 1):
            self.faults.append(f"{restored} states came from checkpoints, of {self.goal.slices} slices")
        if len(set(digests)) != 1:
            self.faults.append(f"the states differ: {digests}")
        if output["accepted"] != len(self.sent.rows) or output["unknown"] or output["wrong"]:
            self.faults.append(f"the logs: {output}, {len(self.sent.rows)} events sent")
        # How the two loaders' rows lie among each other is the log's to say: each row counts what stands before it.
        totals = {user: [len(rows), output["totals"].get(user, 0)] for user, rows in self._by_user().items()}
        totals["all"] = [len(self.sent.rows), sum(output["totals"].values())]
        for server, found in zip(self.servers, steps, strict=True):
            for name, (count, total) in totals.items():
                lost, doubled = lost + max(0, count - found[name][0]), doubled + max(0, found[name][0] - count)
                if found[name] != [count, total]:
                    self.faults.append(
                        f"{server.directory.name}: rows of rows of {name}: {found[name]}, not {[count, total]}"
                    )
        lost += output["lost"] + output["without_row"] + output["unfed"]
        return {"lost": lost, "doubled": doubled + output["doubled"], "restored": restored}

    def _restored(self, server: Server) -> int:
        """How often a server took a state from a checkpoint, as the events that all of them share tell; the newest."""
        with server.client() as client:
            events = client.events(1_000)["events"]
        return sum(event["event_type"] == "checkpoint.restored" for event in events)

    def _output(self) -> dict[str, Any]:
        """What a `read_committed` consumer sees, once there is a row for every event or no more come."""
        url, seen = f"kafka://{self.broker.address}/{PREFIX}", -1
        feeds = [feed["topic"] for feed in self.servers[-1].status()["feeds"]]
        assert len(feeds) == 2, feeds
        while True:
            output = seen_by_a_consumer(url, *TOPICS, *feeds)
            missing = output["without_row"] + output["unfed"]
            if missing in (0, seen):
                return output
            seen = missing
            time.sleep(5)

    def _compare(self, server: Server) -> tuple[int, int]:
        """Of all users, over all time and at several times: how many events are missing, how many too many."""
        by_user = self._by_user()
        lost = doubled = 0
        with server.client() as client:
            whole = client.query_batch("UserFeatures", USERS).to_dicts()
            for user, answer in zip(USERS, whole, strict=True):
                wanted = by_user[user]
                lost += max(0, len(wanted) - answer["n_all"])
                doubled += max(0, answer["n_all"] - len(wanted))
                if answer["total_all"] != math.fsum(amount for _, amount in wanted):
                    self.faults.append(f"{server.directory.name}: the sum of {user} differs")
            for part in range(1, 6):
                until = START + self.goal.events * part // 5 * SECOND
                answers = client.query_batch("UserFeatures", USERS, ts=micros_text(until)).to_dicts()
                for user, answer in zip(USERS, answers, strict=True):
                    day = [amount for at, amount in by_user[user] if until - 86_400 * SECOND <= at <= until]
                    hour = sum(1 for at, _ in by_user[user] if until - 3_600 * SECOND <= at <= until)
                    if (answer["n_1h"], answer["total_1d"]) != (hour, math.fsum(day)):
                        self.faults.append(f"{server.directory.name}: {user} differs at {micros_text(until)}")
        return lost, doubled

    def _by_user(self) -> dict[str, list[tuple[int, float]]]:
        by_user = {user: [] for user in USERS}
        for user, at, amount in self.sent.rows:
            by_user[user].append((at, amount))
        return by_user

    def _steps(self, server: Server) -> dict[str, list[int]]:
        """Of the pipelines on rows: rows and sum of their counts, of each user and of all."""
        with server.client() as client:
            users = zip(USERS, client.query_batch("Steps", USERS).to_dicts(), strict=True)
            answers = [*users, ("all", client.query_batch("Together", ["all"]).to_dicts()[0])]
        return {name: [answer["rows"], answer["total"]] for name, answer in answers}

    def close(self) -> None:
        for server in self.servers:
            if server.process and server.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    server.process.send_signal(signal.SIGCONT)
                server.process.kill()
                server.process.wait()
        self.postgres.close()


def at_rest(servers: list[Server]) -> bool:
    """Whether each may be asked, and has its share of the slices."""
    return not any(server.not_ready() for server in servers) and share(servers)


def until_answered(server: Server, position: str) -> None:
    """Until it answers out of a state that holds `position`. On a connection of its own each time: no client's pauses
    between attempts are measured."""
    asked = {"featureset": "UserFeatures", "user": USERS[0], "at_least": position}
    query = urllib.parse.urlencode({name: value for name, value in asked.items() if value})
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{server.queries}/features?{query}", timeout=PATIENCE_S):
                return
        except OSError as error:
            assert time.monotonic() < until, error
            time.sleep(0.02)


def seen_by_a_consumer(url: str, *topics: str) -> dict[str, Any]:
    """What a `read_committed` consumer sees of a dataset's topic, of the repartition topic that is filled from it, of
    the topic of an aggregated dataset, and of logs of rows."""
    command = [*INSPECT, url, *topics]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)], 2) if ordered else 0.0


def run(goal: Goal, broker: Broker, seed: int = 11) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="thyme-storm.") as directory:
        storm = Storm(Path(directory), goal, broker, seed)
        try:
            storm.start()
            storm.run()
            found = storm.check()
        finally:
            storm.close()
    return {
        "events": len(storm.sent.rows),
        **storm.done,
        **found,
        "recoveries": len(storm.recoveries),
        "answers_p99_s": percentile(storm.answers, 0.99),
        "recovery_p50_s": percentile(storm.recoveries, 0.5),
        "recovery_p99_s": percentile(storm.recoveries, 0.99),
        "recovery_most_s": percentile(storm.recoveries, 1),
        "takeover_most_s": percentile(storm.takeovers, 1),
        "moves": len(storm.moves),
        "move_most_s": percentile(storm.moves, 1),
        "seconds": round(time.monotonic() - started),
        "faults": storm.faults,
    }


def main() -> int:
    options = argparse.ArgumentParser(description="Two servers and a broker, killed under load.")
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument("--kills", type=int, default=110)
    options.add_argument("--broker-kills", type=int, default=10)
    options.add_argument("--pauses", type=int, default=10)
    options.add_argument("--slices", type=int, default=1)
    options.add_argument("--seed", type=int, default=11)
    given = options.parse_args()
    goal = Goal(given.events, given.kills, given.broker_kills, given.pauses, given.slices)
    broker = Broker()
    try:
        found = run(goal, broker, given.seed)
    finally:
        broker.close()
    print(json.dumps(found))
    return 1 if found["lost"] or found["doubled"] or found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
