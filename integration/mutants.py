"""Proves that the engine's simulation, and the crash points, can fail: each mutant takes one protection out of a copy
of the source, and they must notice. A mutant that survives, or no longer fits the source, fails the run.

    python integration/mutants.py            # all
    python integration/mutants.py fence      # those whose name has "fence" in it
    python integration/mutants.py --tested   # all, where the tests have just passed without a mutant

Ends with one JSON line: mutants, mutants_caught, survivors.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PLACE = TARGET / "mutants"
CRATES = ["--release", "--workspace", "--exclude", "thyme-python", "--exclude", "thyme-extract"]
TEST = ["cargo", "--config", "tools/tests.toml", "test", *CRATES]
ENGINE = "services/engine/src"
# Enough for every mutant; what is caught ends with the first seed that shows it.
SEEDS = "200"
ROUNDS = "4"
# Seconds for one mutant once it is compiled, many times what it takes without. The tests count what is done and end by
# themselves: a mutant whose test has no end by then was not noticed.
LONGEST = 900
NO_END = f"no end after {LONGEST} s"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    # What must notice it.
    test: tuple[str, ...] = ("simulation", "--", "states_and_outputs_are_what_a_brute_force_says")


MUTANTS = [
    Mutant(
        "the producer is used on after an unknown outcome",
        f"{ENGINE}/engine.rs",
        """                self.producer = None;
                pass(Point::UnknownEnd)?;
                if !self""",
        "                if !self",
    ),
    Mutant(
        "the producer is used on after a slow commit",
        f"{ENGINE}/engine.rs",
        "self.producer.as_ref().is_none_or(|producer| producer.is_spent())",
        "self.producer.is_none()",
    ),
    Mutant(
        "an unknown outcome counts as committed",
        f"{ENGINE}/engine.rs",
        "if !self.was_committed(&offsets)? {",
        "if false {",
    ),
    Mutant(
        "a new producer does not read what is committed",
        f"{ENGINE}/engine.rs",
        "                shard.learn_committed(self.log.as_ref(), producer.as_mut())?;",
        "                let _ = &shard;",
    ),
    Mutant(
        "committed offsets are read before the fence",
        f"{ENGINE}/engine.rs",
        """            let mut producer = self.log.producer(&self.options.transactional_id())?;
            pass(Point::Fenced)?;
            self.check_note(producer.as_mut())?;
            for shard in &mut self.shards {
                shard.learn_committed(self.log.as_ref(), producer.as_mut())?;
            }
            pass(Point::CommittedRead)?;
            self.producer = Some(producer);""",
        """            let mut unfenced = self.log.producer("unfenced")?;
            for shard in &mut self.shards {
                shard.learn_committed(self.log.as_ref(), unfenced.as_mut())?;
            }
            pass(Point::Fenced)?;
            let producer = self.log.producer(&self.options.transactional_id())?;
            pass(Point::CommittedRead)?;
            self.producer = Some(producer);""",
        # It takes another engine between the two, which the simulation, one call after the other, never has there.
        test=("crash_points", "--", "Fenced"),
    ),
    Mutant(
        "the gap is replayed with outputs",
        f"{ENGINE}/shard.rs",
        "if next > *committed {",
        "if next > 0 {",
    ),
    Mutant(
        "a tick reads past the end of the gap",
        f"{ENGINE}/shard.rs",
        "records.partition_point(|record| record.offset < limit)",
        "records.partition_point(|record| record.offset < below)",
    ),
    Mutant(
        "the state is written before the log",
        f"{ENGINE}/engine.rs",
        """        self.send(&mut advances)?;
        pass(Point::BeforeTick)?;
""",
        """        let written = std::mem::replace(&mut tick, self.state.tick());
        written.commit(Durability::Buffered)?;
        self.send(&mut advances)?;
        pass(Point::BeforeTick)?;
""",
    ),
    Mutant(
        "offsets are not part of the transaction",
        f"{ENGINE}/engine.rs",
        "            for (group, topic, partition, next) in &offsets {",
        """            if let CommitOutcome::NotCommitted(error) | CommitOutcome::Unknown(error) = producer.commit() {
                return Err(error);
            }
            producer.begin()?;
            for (group, topic, partition, next) in &offsets {""",
    ),
    Mutant(
        "offsets are not committed",
        f"{ENGINE}/engine.rs",
        "producer.send_offset(group, topic, *partition, *next)?;",
        "let _ = (group, topic, partition, next);",
        # Without any offset the engine finds its place in the outputs themselves, as where a broker has forgotten it:
        # that gives the same outputs but for events that an erase reached before their record was written.
        test=("emit", "--", "an_event_that_was_erased_first_has_no_record_from_a_new_state_either"),
    ),
    Mutant(
        "the offset of the last record is committed, not of the next",
        f"{ENGINE}/engine.rs",
        "producer.send_offset(group, topic, *partition, *next)?;",
        "producer.send_offset(group, topic, *partition, *next - 1)?;",
    ),
    Mutant(
        "a refused commit counts as made",
        f"{ENGINE}/engine.rs",
        """                self.producer = None;
                return Err(error.context("committing outputs"));
            }
            CommitOutcome::Unknown""",
        """                let _ = error;
            }
            CommitOutcome::Unknown""",
    ),
    Mutant(
        "lateness is judged by the tick, not by the record",
        f"{ENGINE}/accept.rs",
        "(self.dataset.max_lateness, verdict.acceptance.greatest_event_time)",
        "(self.dataset.max_lateness, snapshot.acceptance(self.log_id, self.partition)?"
        ".unwrap_or_default().greatest_event_time)",
    ),
    Mutant(
        "duplicates are seen within a tick only",
        f"{ENGINE}/accept.rs",
        "dedup.finish(tick, before.greatest_append_time, verdict.acceptance.greatest_append_time)?;",
        "let _ = (dedup, before);",
    ),
    Mutant(
        "what another engine committed meanwhile is forgotten",
        f"{ENGINE}/shard.rs",
        "*place = (*place).max(*next);",
        "*place = *next;",
        # It takes another engine between the end of a transaction and the question what became of it.
        test=("crash_points", "--", "UnknownEnd"),
    ),
    Mutant(
        "an emitter goes on from the note in its state",
        f"{ENGINE}/assembly.rs",
        "next: committed, kind: MemberKind::Emitter",
        "next, kind: MemberKind::Emitter",
    ),
    Mutant(
        "an emitter reads beyond its pipeline",
        f"{ENGINE}/emit.rs",
        "map_or(0, |pipeline| self.members[pipeline].next)",
        "map_or(0, |_| self.next)",
        # It takes a pipeline that is being built.
        test=("crash_points", "--", "Emitted"),
    ),
    Mutant(
        "an emitter's row counts later events",
        f"{ENGINE}/emit.rs",
        "sequence_below: Some(event.sequence + 1)",
        "sequence_below: None",
    ),
    Mutant(
        "a table does not wait for the erases that it leaves out",
        f"{ENGINE}/erased.rs",
        "unread.next().is_some()",
        "unread.next().is_some_and(|_| false)",
        # It takes a state that begins anew beside a repartition log with copies of what was erased.
        test=("erases", "--", "a_table_waits_until_the_erases_it_knows_were_read"),
    ),
    Mutant(
        "a slice does not wait for the erases of others",
        f"{ENGINE}/engine.rs",
        "((foreign.log_id, foreign.partition), foreign.next)",
        "((foreign.log_id, foreign.partition), foreign.next.max(u64::MAX))",
        test=("slices", "--", "slices_leave_out_what_was_erased"),
    ),
    Mutant(
        "an owner does not look at what its successor has noted",
        f"{ENGINE}/notes.rs",
        "if noted > self.number {",
        "if noted > u64::MAX - 1 {",
        test=("slices", "--", "an_owner_of_an_earlier_deployment_sends_nothing"),
    ),
    Mutant(
        "a position is applied where one slice has it",
        f"{ENGINE}/applied.rs",
        "shards.all(|covered|",
        "shards.any(|covered|",
        test=("slices", "--", "slices_make_the_rows_of_rows_of_one_engine"),
    ),
    Mutant(
        "rows say how far their events' log is, not how far they are",
        f"{ENGINE}/emit.rs",
        "if is_at_end { self.greatest_event_time() } else { None }",
        "self.greatest_event_time()",
        test=("chains", "--", "what_is_said_of_rows_is_true"),
    ),
    Mutant(
        "rows count as routed when their events are",
        f"{ENGINE}/derived.rs",
        "if is_feed { known.map(|(_, offset)| *offset) } else { Some(progress.next_offset) }",
        "{ let _ = (is_feed, known); Some(progress.next_offset) }",
        test=("chains", "--", "what_is_said_of_rows_is_true"),
    ),
    Mutant(
        "ties go by the repartition log's order",
        f"{ENGINE}/derived.rs",
        "                    origin,\n                    sequence: log_record.offset,",
        "                    origin: thyme_core::position::Position"
        " { partition: self.partition, offset: log_record.offset },\n"
        "                    sequence: log_record.offset.max(origin.offset.min(0)),",
    ),
    Mutant(
        "an empty read of what others have read is taken for a gap",
        f"{ENGINE}/shard.rs",
        "        records.last().map(|last| last.offset + 1).ok_or_else(|| {",
        """        if records.is_empty() {
            return Ok(below);
        }
        records.last().map(|last| last.offset + 1).ok_or_else(|| {""",
        test=("chains", "--", "every_row_is_in_the_tables_once"),
    ),
    Mutant(
        "what others have read of a partition is not waited for",
        "services/log/src/kafka/cursor.rs",
        "            self.connection.ends.raise(&self.topic, self.partition, next);",
        "            let _ = next;",
        # It takes a broker, and two consumers of one process.
        test=("kafka", "--", "what_was_read_at_one_place_is_there_at_every_other"),
    ),
]


def copy_source() -> Path:
    """The files git knows, in a place of their own, so that no mutant is ever in the real ones."""
    source = PLACE / "src"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if not (source / name).exists():
                # With its time: what the real target directory has compiled from it is still fresh.
                shutil.copy2(ROOT / name, source / name)
            elif (source / name).read_bytes() != (ROOT / name).read_bytes():
                shutil.copyfile(ROOT / name, source / name)
    return source


def seed_target() -> Path:
    """A target directory of its own, with what the real one has compiled but for the test programs: cargo knows a crate
    by its place in the workspace, so that only what a mutant touches is compiled again."""
    target = PLACE / "target"
    for part in ("deps", "build", ".fingerprint"):
        compiled = TARGET / "release" / part
        if compiled.is_dir() and not (target / "release" / part).is_dir():
            unneeded = programs if part == "deps" else None
            shutil.copytree(compiled, target / "release" / part, ignore=unneeded, copy_function=link_or_copy)
    return target


def programs(_: str, names: list[str]) -> list[str]:
    """Of the names in `deps`."""
    return [name for name in names if "." not in name]


def link_or_copy(source: str, copy: str) -> None:
    """Crates of others are not compiled again, and large: they are shared."""
    if os.path.getsize(source) > 1 << 20 and "thyme" not in os.path.basename(source):
        with contextlib.suppress(OSError):
            os.link(source, copy)
            return
    shutil.copy2(source, copy)


def run(test: tuple[str, ...], source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "SEEDS": SEEDS, "CRASH_ROUNDS": ROUNDS}
    compiled = subprocess.run(
        [*TEST, "--quiet", "--no-run", "--test", test[0]], cwd=source, env=environment, capture_output=True, text=True
    )
    if compiled.returncode != 0:
        raise SystemExit(f"error: it does not compile\n{compiled.stderr[-3000:]}")
    command = [*TEST, "--quiet", "--test", *test]
    # In a group of its own, so that an engine that goes round in circles ends with the rest.
    running = subprocess.Popen(
        command,
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = running.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        stdout, stderr = running.communicate()
        stdout += NO_END
    return subprocess.CompletedProcess(command, running.returncode, stdout, stderr)


def noticed_by(program: str, done: subprocess.CompletedProcess[str]) -> str | None:
    """What a test program that ran to its end has found first; `None` if it found nothing."""
    if program == "crash_points":
        reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        # A case that was never reached fails the program too, and is no difference.
        if not reports or not reports[-1]["differences"]:
            return None
        told = list(itertools.dropwhile(lambda line: not line.startswith("Case {"), done.stderr.splitlines()))
        of_case = itertools.takewhile(lambda line: line.startswith(" "), told[1:])
        first = "\n  ".join([*told[:1], *of_case])
        return f"{reports[-1]['differences']} of {reports[-1]['crash_runs']} runs, first {first}"
    if "test result: FAILED" not in done.stdout:
        return None
    said = (done.stdout + done.stderr).splitlines()
    panics = [" ".join(said[index : index + 2]) for index, line in enumerate(said) if "panicked at" in line]
    seeds = [line for line in said if line.startswith("seed ")]
    return " ".join([*seeds[:1], *panics[:1]])[:300] or "a test failed"


def caught_by(mutant: Mutant, source: Path, target: Path) -> str | None:
    """What noticed it; `None` if it survives."""
    file = source / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"error: the mutant no longer fits the source: {mutant.name} ({mutant.file})")
    try:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = run(mutant.test, source, target)
    finally:
        file.write_text(text, encoding="utf-8")
    found = None if NO_END in done.stdout else noticed_by(mutant.test[0], done)
    if found is None and done.returncode != 0:
        print(f"its test failed, but found no difference:\n{done.stdout[-1000:]}{done.stderr[-3000:]}", file=sys.stderr)
    return found


def check_without(tests: set[tuple[str, ...]], source: Path, target: Path) -> None:
    for test in sorted(tests):
        done = run(test, source, target)
        if done.returncode != 0:
            raise SystemExit(f"error: {test[0]} must pass without a mutant\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        print(f"passes without a mutant: {test[0]}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    wanted = [word for word in arguments if word != "--tested"]
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in wanted)]
    source, target = copy_source(), seed_target()
    if "--tested" not in arguments:
        check_without({mutant.test for mutant in chosen}, source, target)
    survivors = []
    for mutant in chosen:
        began = time.monotonic()
        noticed = caught_by(mutant, source, target)
        outcome = "SURVIVED" if noticed is None else "caught"
        print(f"{outcome}, {time.monotonic() - began:.0f} s: {mutant.name}", file=sys.stderr)
        if noticed is None:
            survivors.append(mutant.name)
        else:
            print(f"  by {noticed}", file=sys.stderr, flush=True)
    report = {"mutants": len(chosen), "mutants_caught": len(chosen) - len(survivors), "survivors": survivors}
    print(json.dumps(report))
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
