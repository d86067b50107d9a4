//! SIGKILL at any moment: what was acknowledged is there, once, in order, and transactions are whole.
//!
//! The test runs its own binary as the child: `child_appends_until_killed` does nothing unless it is told a directory.

use super::*;
use crate::CommitOutcome;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const DIRECTORY: &str = "THYME_LOG_TEST_CHILD_DIRECTORY";

/// Appends numbers for ever, alone and in transactions that write two topics, and prints each once it is acknowledged.
#[tokio::test]
async fn child_appends_until_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let log = EmbeddedLog::open_with(directory, Options { segment_bytes: 4096, cache_bytes: 1000 }).unwrap();
    for topic in ["alone", "left", "right"] {
        log.create_topic(topic, 1).unwrap();
    }
    let mut producer = log.producer("p").unwrap();
    let mut alone = log.end_offset("alone", 0).unwrap();
    let mut pairs = producer.committed("g", "alone", 0).unwrap().unwrap_or(0);
    let mut out = std::io::stdout();
    loop {
        log.append(vec![batch("alone", 0, &[&alone.to_string()])]).await.unwrap();
        alone += 1;
        let value = pairs.to_string();
        producer.begin().unwrap();
        producer.send(batch("left", 0, &[&value])).unwrap();
        producer.send(batch("right", 0, &[&value, &value])).unwrap();
        producer.send_offset("g", "alone", 0, pairs + 1).unwrap();
        assert!(matches!(producer.commit(), CommitOutcome::Committed));
        pairs += 1;
        writeln!(out, "acknowledged {alone} {pairs}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::tests::killed::child_appends_until_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((_, numbers)) = line.split_once("acknowledged ") else { continue };
            acknowledged.push(numbers.split(' ').map(|number| number.parse::<u64>().unwrap()).collect::<Vec<_>>());
            if acknowledged.len() == 7 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let last = acknowledged.last().unwrap();

        let log = EmbeddedLog::open(directory.path()).unwrap();
        let alone = values(&log, "alone", 0).unwrap();
        let left = values(&log, "left", 0).unwrap();
        let right = values(&log, "right", 0).unwrap();
        let committed = log.producer("p").unwrap().committed("g", "alone", 0).unwrap().unwrap();
        // What was under way when the signal came may be there too.
        assert!((last[0]..=last[0] + 1).contains(&(alone.len() as u64)));
        assert!((last[1]..=last[1] + 1).contains(&committed));
        assert!(alone.iter().enumerate().all(|(index, value)| *value == index.to_string()));
        assert!(left.iter().enumerate().all(|(index, value)| *value == index.to_string()));
        assert_eq!(left.len() as u64, committed);
        assert!(right.chunks(2).eq(left.iter().map(|value| [value.clone(), value.clone()])));
    }
}
