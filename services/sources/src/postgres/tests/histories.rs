//! Transactions that overlap with polls: no committed row is lost, none comes twice.

use super::*;
use std::collections::BTreeMap;

/// Polls with pages of `max_rows` until nothing more comes; the ids in order, and the last poll.
fn drain(table: &Table, mut last: Option<Poll>, max_rows: usize) -> (Vec<i64>, Poll) {
    let mut found = Vec::new();
    loop {
        let poll = table.poll(last.as_ref(), max_rows).unwrap();
        assert_eq!(poll.rejected, []);
        found.extend(ids(&poll));
        if !poll.has_more {
            return (found, poll);
        }
        last = Some(poll);
    }
}

#[test]
fn rows_that_wait_for_an_open_transaction_name_it() {
    let mut table = Table::of_events();
    let name = table.name.clone();
    table.sql("INSERT INTO $t VALUES (1, '2024-01-15T12:00:00Z')");
    let mut slow = Client::new();
    slow.sql(&format!("BEGIN; INSERT INTO {name} VALUES (2, '2024-01-15T11:00:00Z')"));
    let (first, last) = drain(&table, None, 10);
    assert_eq!((first, &last.pending), (vec![1], &None), "an open transaction alone has no rows that wait");

    table.sql("INSERT INTO $t VALUES (3, '2024-01-15T13:00:00Z')");
    let (none, last) = drain(&table, Some(last), 10);
    assert_eq!(none, [0; 0]);
    let pending = last.pending.clone().unwrap();
    assert!(pending.contains("new rows wait until transaction") && pending.contains("pg_stat_activity"), "{pending}");

    slow.sql("COMMIT");
    let (both, last) = drain(&table, Some(last), 10);
    assert_eq!((both, &last.pending), (vec![2, 3], &None));
    assert_eq!(drain(&table, Some(last), 10).0, [0; 0]);
}

#[test]
fn rows_of_a_savepoint_come_with_its_transaction() {
    let mut table = Table::of_events();
    let name = table.name.clone();
    let mut slow = Client::new();
    slow.sql(&format!("BEGIN; INSERT INTO {name} VALUES (1, '2024-01-15T12:00:00Z'); SAVEPOINT a"));
    slow.sql(&format!("INSERT INTO {name} VALUES (2, '2024-01-15T12:00:01Z'); RELEASE a; SAVEPOINT b"));
    slow.sql(&format!("INSERT INTO {name} VALUES (3, '2024-01-15T12:00:02Z'); ROLLBACK TO b"));
    table.sql("INSERT INTO $t VALUES (4, '2024-01-15T12:00:03Z')");
    let (none, last) = drain(&table, None, 10);
    assert_eq!(none, [0; 0]);
    slow.sql("COMMIT");
    assert_eq!(drain(&table, Some(last), 1).0, [1, 2, 4]);
}

#[test]
fn rows_whose_keys_read_alike_are_two_events() {
    let fields: Vec<Field> = conformance::fields().into_iter().take(2).collect();
    let columns = "id bigint NOT NULL, ts timestamptz NOT NULL, a text, b text, PRIMARY KEY (a, b)";
    let mut table = Table::new(columns, fields, None);
    table.sql("INSERT INTO $t VALUES (1, '2024-01-15', '1, b=2', '3'), (1, '2024-01-15', '1', '2, b=3')");
    let poll = table.poll(None, 10).unwrap();
    assert_eq!(ids(&poll), [1, 1]);
    assert_ne!(poll.rows[0].id, poll.rows[1].id);
}

#[test]
fn a_partitioned_table_is_one_table() {
    let mut table = Table::of_events();
    table.sql("DROP TABLE $t; CREATE TABLE $t (id bigint, ts timestamptz NOT NULL, PRIMARY KEY (ts, id)) PARTITION BY RANGE (ts)");
    table.sql("CREATE TABLE $t_a PARTITION OF $t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')");
    table.sql("CREATE TABLE $t_b PARTITION OF $t DEFAULT; GRANT SELECT ON $t TO reader");
    table.sql("INSERT INTO $t SELECT n, '2024-01-20'::date + n FROM generate_series(1, 20) n");
    let (first, last) = drain(&table, None, 3);
    table.sql("INSERT INTO $t VALUES (21, '2024-01-01'), (22, '2025-01-01')");
    assert_eq!((first, drain(&table, Some(last), 3).0), ((1..=20).collect(), vec![21, 22]));
}

#[test]
fn an_updated_row_is_a_new_event() {
    let mut table = Table::of_events();
    table.sql("INSERT INTO $t SELECT n, '2024-01-15T12:00:00Z' FROM generate_series(1, 3) n");
    let (first, last) = drain(&table, None, 2);
    table.sql("UPDATE $t SET ts = '2023-01-15T12:00:00Z' WHERE id = 2; DELETE FROM $t WHERE id = 3");
    assert_eq!((first, drain(&table, Some(last), 2).0), (vec![1, 2, 3], vec![2]));
}

#[test]
fn a_server_that_was_killed_is_read_on() {
    let mut table = Table::of_events();
    table.sql("INSERT INTO $t SELECT n, '2024-01-15T12:00:00Z' FROM generate_series(1, 5) n; CHECKPOINT");
    let mut source = table.source();
    let first = source.poll(None, 3).unwrap();
    SERVER.kill().unwrap();
    let error = source.poll(Some(&first.cursor), 3).unwrap_err();
    assert_eq!(error.kind(), thyme_core::ErrorKind::Unavailable, "{error}");
    SERVER.restart().unwrap();
    let rest = source.poll(Some(&first.cursor), 3).unwrap();
    assert_eq!((ids(&first), ids(&rest)), (vec![1, 2, 3], vec![4, 5]));
}

/// Four clients begin, insert, commit and roll back at random, with random cursor values; a reader polls in between with
/// random pages, and now and then dies before its cursor is saved.
fn random_history(seed: u64) {
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut table = Table::of_events();
    let name = table.name.clone();
    let mut clients: Vec<(Client, bool)> = (0..4).map(|_| (Client::new(), false)).collect();
    let mut found: BTreeMap<i64, Vec<thyme_core::record::EventId>> = BTreeMap::new();
    let mut saved: Option<Poll> = None;
    let mut next_id = 0;
    for _ in 0..250 {
        let which = random(4) as usize;
        let (client, is_open) = &mut clients[which];
        match random(8) {
            0 if !*is_open => {
                client.sql("BEGIN");
                *is_open = true;
            }
            0 | 1 if *is_open => {
                client.sql(if random(4) == 0 { "ROLLBACK" } else { "COMMIT" });
                *is_open = false;
            }
            2 if *is_open => client.sql("SAVEPOINT here"),
            3..=5 => {
                next_id += 1;
                client.sql(&format!("INSERT INTO {name} VALUES ({next_id}, to_timestamp({}))", random(20)));
            }
            _ => {
                let poll = table.poll(saved.as_ref(), 1 + random(5) as usize).unwrap();
                for row in &poll.rows {
                    found.entry(row.values[0].as_int().unwrap()).or_default().push(row.id.clone());
                }
                if random(3) > 0 {
                    saved = Some(poll);
                }
            }
        }
    }
    for (client, is_open) in &mut clients {
        if *is_open {
            client.sql("COMMIT");
        }
    }
    // A range that was begun is read to its end, then one up to the present horizon.
    for _ in 0..2 {
        let mut has_more = true;
        while has_more {
            let poll = table.poll(saved.as_ref(), 3).unwrap();
            for row in &poll.rows {
                found.entry(row.values[0].as_int().unwrap()).or_default().push(row.id.clone());
            }
            has_more = poll.has_more;
            saved = Some(poll);
        }
    }
    let committed = table.client.texts(&format!("SELECT id::text FROM {name} AS t ORDER BY t.id"));
    assert!(committed.len() > 20, "seed {seed}: {} rows", committed.len());
    assert_eq!(found.keys().map(i64::to_string).collect::<Vec<_>>(), committed, "seed {seed}");
    for (id, events) in &found {
        assert!(events.iter().all(|event| event == &events[0]), "seed {seed}: row {id} has two event ids");
    }
}

#[test]
fn random_histories_are_read_whole_and_once() {
    (1..=6).for_each(random_history);
}

/// Without crashes each row comes exactly once, not only under one id.
#[test]
fn no_row_comes_twice_while_transactions_stay_open() {
    let mut table = Table::of_events();
    let name = table.name.clone();
    let mut found = Vec::new();
    let mut last = None;
    let mut open: Vec<Client> = Vec::new();
    for number in 0..40 {
        let mut client = Client::new();
        client.sql(&format!("BEGIN; INSERT INTO {name} VALUES ({number}, to_timestamp({}))", 1000 - number));
        open.push(client);
        if open.len() > 3 {
            open.swap_remove(number as usize % 3).sql("COMMIT");
        }
        let (ids, poll) = drain(&table, last, 2);
        found.extend(ids);
        last = Some(poll);
    }
    open.iter_mut().for_each(|client| client.sql("COMMIT"));
    found.extend(drain(&table, last, 2).0);
    assert_eq!(found.len(), 40);
    found.sort_unstable();
    assert_eq!(found, (0..40).collect::<Vec<i64>>());
    assert_eq!(table.client.texts("SELECT 'still here'"), ["still here"]);
}
