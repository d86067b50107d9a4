"""The protections that `mutants.py` takes out of a copy of the source, one at a time, and who must notice it."""

from __future__ import annotations

from dataclasses import dataclass

ENGINE = "services/engine/src"
QUERY = "services/query/src"


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
        "if number::is_left_behind(noted, self.number) {",
        "if number::is_left_behind(noted, u64::MAX) {",
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
    Mutant(
        "what one owner has noted counts for all",
        f"{ENGINE}/notes.rs",
        """        let mut least = u64::MAX;
        for slice in 0..slices {
            least = least.min(producer""",
        """        let mut least = 0;
        for slice in 0..slices {
            least = least.max(producer""",
        test=("slices", "--", "an_owner_of_an_earlier_deployment_sends_nothing"),
    ),
    Mutant(
        "what is noted is not noted again",
        f"{ENGINE}/notes.rs",
        "        self.noted = 0;\n        self.noted_erases.clear();",
        "        self.noted_erases.clear();",
        test=("slices", "--", "what_is_noted_is_noted_again"),
    ),
    Mutant(
        "a node answers another one by its own commit",
        f"{QUERY}/part.rs",
        "if *serving != place.commit_id {",
        "if serving.is_empty() {",
        test=("forwarding", "--", "a_node_that_has_lost_the_slice_or_serves_another_commit_says_so"),
    ),
    Mutant(
        "now is what the slices that are here say",
        f"{QUERY}/engine.rs",
        "view.now = view.now.max(elsewhere.unwrap_or(0));",
        "let _ = elsewhere;",
        test=("forwarding", "--", "whoever_is_asked_answers_as_one_that_holds_everything"),
    ),
    Mutant(
        "the watermark of an answer is that of one of the nodes",
        f"{QUERY}/part.rs",
        "if let Some(watermark) = other.watermark {",
        "if let (None, Some(watermark)) = (self.watermark, other.watermark) {",
        test=("forwarding", "--", "a_watermark_is_that_of_the_node_that_is_behind"),
    ),
    Mutant(
        "keys that another node knows count as unknown",
        f"{QUERY}/forward.rs",
        "        hits[*row] = true;",
        "        let _ = &mut hits[*row];",
        test=("forwarding", "--", "whoever_is_asked_answers_as_one_that_holds_everything"),
    ),
    Mutant(
        "a pin does not bound what is read",
        f"{QUERY}/view.rs",
        "let sequence_below = Some(place(pin, source, partition)?.next);",
        "let sequence_below = None;",
        test=("query", "--", "a_pin_gives_the_same_rows_again"),
    ),
    Mutant(
        "a pin is taken on any log",
        f"{QUERY}/pin.rs",
        "if pin.log != self.log()? {",
        "if false {",
        test=("query", "--", "a_pin_is_of_one_log_and_of_what_a_node_has_applied"),
    ),
    Mutant(
        "a pin is taken by a node that is behind",
        f"{QUERY}/pin.rs",
        'self.check_applied("the pin", source, partition, next).map_err(|error| error.field("pin"))?;',
        "",
        test=("query", "--", "a_pin_is_of_one_log_and_of_what_a_node_has_applied"),
    ),
    Mutant(
        "a pin is taken under another definition",
        f"{QUERY}/pin.rs",
        "of.iter().find(|pinned| !pin.definitions.contains(&pinned.definition))",
        "of.iter().find(|_| false)",
        test=("query", "--", "another_definition_breaks_a_pin"),
    ),
    Mutant(
        "a pin does not see erases",
        f"{QUERY}/pin.rs",
        "if self.state(source, partition)?.is_erased_from(log, partition, next)? {",
        "if false {",
        test=("query", "--", "erased_keys_break_a_pin"),
    ),
    Mutant(
        "a pin is taken for a table that was built anew",
        f"{QUERY}/pin.rs",
        "pin.tables.get(&source.served.table.id)",
        "pin.tables.values().next()",
        test=("query", "--", "a_table_that_is_built_anew_breaks_a_pin"),
    ),
    Mutant(
        "the horizon of a pin is that of now",
        f"{QUERY}/view.rs",
        "Some(pin) => place(pin, source, partition)?.horizon,",
        "Some(_) => kept_from,",
        test=("query", "--", "the_horizon_of_a_pin_is_that_of_then"),
    ),
    Mutant(
        "what is not kept any more is read under a pin",
        f"{QUERY}/view.rs",
        "if at >= horizon.kept_from {",
        "if at >= horizon.earliest {",
        test=("query", "--", "the_horizon_of_a_pin_is_that_of_then"),
    ),
    Mutant(
        "a lookup under a pin of what is not kept any more fails its row only",
        f"{QUERY}/export.rs",
        "        view.check_lost()?;\n",
        "",
        test=("query", "--", "the_horizon_of_a_pin_is_that_of_then"),
    ),
]
