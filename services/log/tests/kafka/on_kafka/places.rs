//! Several places of one partition, each with a consumer that fetches on its own, and records that another process appends.

use super::*;

/// A pipeline's table has come so far; what follows it from behind must find the same records, or it would lose them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_at_one_place_is_there_at_every_other() {
    let settings = settings(&BROKER, &own_prefix(), &[]);
    let (log, writer) = (KafkaLog::open(settings.clone()).unwrap(), KafkaLog::open(settings).unwrap());
    writer.create_topic("t", 1).unwrap();
    writer.append(vec![batch("t", 0, &["a", "b"])]).await.unwrap();
    let mut end = log.end_offset("t", 0).unwrap();
    // One place at the end, and one that comes there from the start.
    log.expect_reads("t", 0, end);
    let mut from = 0;
    while from < end {
        from = log.read("t", 0, from, 1, 1 << 20).unwrap().last().unwrap().offset + 1;
    }
    for round in 0..100 {
        writer.append(vec![batch("t", 0, &["c"])]).await.unwrap();
        let first = loop {
            let records = log.read("t", 0, end, 10, 1 << 20).unwrap();
            if !records.is_empty() {
                break records;
            }
        };
        let second = log.read("t", 0, end, 10, 1 << 20).unwrap();
        assert_eq!(first, second, "round {round}");
        end = first.last().unwrap().offset + 1;
    }
}
