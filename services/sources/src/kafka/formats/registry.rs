//! What a schema registry may answer.

use super::server::{Answer, Registry, SHORT, schemas};
use super::{framed, settings_of, zigzag};
use crate::kafka::schemas::{Schemas, Waits};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use thyme_core::{Error, ErrorKind};

/// A value of schema `id`, whose schema is `"long"`.
fn number(schemas: &mut Schemas, id: u32) -> Result<Json, String> {
    let read = schemas.read(&framed(id, &zigzag(7))).unwrap();
    read.map(|datum| datum.shown()).map_err(|error| error.to_string())
}

/// Why the source stops at a value of schema `id`.
fn stop(schemas: &mut Schemas, id: u32) -> Error {
    schemas.read(&framed(id, &zigzag(7))).err().unwrap()
}

#[test]
fn a_value_names_its_schema() {
    let registry = Registry::start();
    let mut schemas = registry.schemas("avro", SHORT);
    for value in [&b""[..], b"{}", b"\x01\0\0\0\x01\x0e", b"\0\0\0\x01", b"\0"] {
        let error = schemas.read(value).unwrap().unwrap_err().to_string();
        assert!(error.contains("names no schema") && error.contains("format=\"json\""), "{error}");
    }
    assert_eq!(registry.asked().len(), 0);
    registry.avro(u32::MAX, &json!("long"));
    assert_eq!(number(&mut schemas, u32::MAX), Ok(json!(7)));
    let error = schemas.read(&framed(u32::MAX, &[])).unwrap().unwrap_err().to_string();
    assert_eq!(error, "schema 4294967295: the value ends too early");
}

#[test]
fn a_schema_is_asked_for_once() {
    let registry = Registry::start();
    registry.avro(1, &json!("long"));
    registry.avro(2, &json!("long"));
    let mut schemas = registry.schemas("avro", SHORT);
    for id in [1, 2, 1, 1, 2] {
        assert_eq!(number(&mut schemas, id), Ok(json!(7)));
    }
    assert_eq!(registry.asked(), ["/schemas/ids/1 ", "/schemas/ids/2 "]);
    // Even if the registry is gone by then.
    registry.json("/schemas/ids/1", 500, &json!({}));
    assert_eq!(number(&mut schemas, 1), Ok(json!(7)));
}

#[test]
fn an_unknown_id_is_the_records_own_fault_and_is_asked_for_again_later() {
    let registry = Registry::start();
    let mut schemas = registry.schemas("avro", SHORT);
    let hint = "check that schema_registry is the one that the topic is written with";
    let unknown = Err(format!("schema 5: the schema registry has no such schema (hint: {hint})"));
    assert_eq!(number(&mut schemas, 5), unknown);
    assert_eq!(registry.asked().len(), 4);
    // It is not asked for at once again.
    assert_eq!(number(&mut schemas, 5), unknown);
    assert_eq!(registry.asked().len(), 4);
    // Others are, but garbage without end is not worth the wait.
    for id in 100..104 {
        assert!(number(&mut schemas, id).is_err());
    }
    assert_eq!(registry.asked().len(), 5 * 4);
    assert!(number(&mut schemas, 6).is_err());
    assert_eq!(registry.asked().len(), 5 * 4 + 1);
    // One that is known is found all the same.
    registry.avro(7, &json!("long"));
    assert_eq!(number(&mut schemas, 7), Ok(json!(7)));

    let mut soon = registry.schemas("avro", Waits { missing: Duration::ZERO, ..SHORT });
    assert_eq!(number(&mut soon, 5), unknown);
    registry.avro(5, &json!("long"));
    assert_eq!(number(&mut soon, 5), Ok(json!(7)));
    assert!(number(&mut schemas, 5).is_err());
}

#[test]
fn a_schema_that_a_node_of_the_registry_learns_of_late_is_waited_for() {
    let registry = Registry::start();
    let mut schemas = registry.schemas("avro", Waits { pause: Duration::from_millis(300), ..SHORT });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while registry.asked().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            registry.avro(5, &json!("long"));
        });
        assert_eq!(number(&mut schemas, 5), Ok(json!(7)));
    });
    assert_eq!(registry.asked().len(), 2);
}

#[test]
fn what_is_wrong_with_a_schema_or_the_registry_stops_the_source() {
    let registry = Registry::start();
    let by_id = |id: u32| format!("/schemas/ids/{id}");
    let body = |status, text: &str| Answer::Body(status, text.to_string());
    registry.json(&by_id(9), 200, &json!({"schema": "message M { }", "schemaType": "PROTOBUF"}));
    registry.json(&by_id(10), 200, &json!({"schema": "{\"type\": \"record\"}"}));
    registry.json(&by_id(11), 500, &json!({"error_code": 50001, "message": "Error in the backend data store"}));
    // What is missing is the page, not the schema.
    registry.answer(&by_id(12), body(404, "<html>no such page</html>"));
    registry.json(&by_id(13), 401, &json!({"error_code": 401}));
    registry.json(&by_id(14), 403, &json!({"error_code": 40301}));
    registry.json(&by_id(15), 429, &json!({"error_code": 429}));
    registry.answer(&by_id(16), body(200, "<html>please log in</html>"));
    registry.answer(&by_id(17), body(200, "{\"schema\": 7}"));
    registry.answer(&by_id(18), Answer::Torn);
    registry.answer(&by_id(19), Answer::Endless);
    registry.json(&by_id(20), 200, &json!({"schema": "{}", "schemaType": "JSON"}));
    registry.json(&by_id(21), 404, &json!({"error_code": 404, "message": "HTTP 404 Not Found"}));
    let mut schemas = registry.schemas("avro", SHORT);
    let (fixed, waits) = (ErrorKind::FailedPrecondition, ErrorKind::Unavailable);
    for (id, kind, part) in [
        (
            9,
            fixed,
            "schema 9 of the schema registry: it is of type PROTOBUF, and the source reads avro (hint: write format=\"protobuf\")",
        ),
        (10, fixed, "schema 10 of the schema registry: the schema has no valid 'name'"),
        (11, waits, "answers 500"),
        (12, waits, "answers 404 Not Found (hint: check schema_registry"),
        (13, fixed, "refuses the server: 401"),
        (14, fixed, "schema_registry_password=Secret(env=…)"),
        (15, waits, "answers 429"),
        (16, waits, "answers something else than a schema"),
        (17, waits, "answers something else than a schema"),
        (18, waits, "does not answer"),
        (19, waits, "answers something else than a schema"),
        (20, fixed, "it is of type JSON, and the source reads avro (hint: write format=\"json\")"),
        (21, waits, "answers 404"),
    ] {
        let error = stop(&mut schemas, id);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{id}: {error}");
    }
    // Once it is put right, it is read.
    registry.avro(10, &json!("long"));
    assert_eq!(number(&mut schemas, 10), Ok(json!(7)));
    registry.protobuf(22, "message {");
    let error = stop(&mut registry.schemas("protobuf", SHORT), 22);
    assert!(
        error.kind() == fixed
            && error.to_string().contains("schema 22 of the schema registry: the schema is not valid"),
        "{error}"
    );
}

#[test]
fn a_registry_that_does_not_answer_is_not_waited_for_for_ever() {
    let registry = Registry::start();
    registry.answer("/schemas/ids/1", Answer::Silence);
    let mut impatient = registry.schemas("avro", Waits { answer: Duration::from_millis(200), ..SHORT });
    let begun = Instant::now();
    let error = stop(&mut impatient, 1);
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("did not answer in time"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(4));
    let gone = json!({"topic": "t", "format": "avro", "schema_registry": "http://127.0.0.1:1"});
    let error = stop(&mut schemas(&gone, SHORT), 1);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the schema registry at http://127.0.0.1:1/ does not answer"), "{error}");
    let nowhere = json!({"topic": "t", "format": "avro", "schema_registry": "http://registry.invalid"});
    let error = stop(&mut schemas(&nowhere, SHORT), 1);
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("registry.invalid"), "{error}");
    // TLS is spoken where the address says so.
    let secure =
        json!({"topic": "t", "format": "avro", "schema_registry": registry.address.replace("http:", "https:")});
    assert_eq!(stop(&mut schemas(&secure, SHORT), 1).kind(), ErrorKind::Unavailable);
}

#[test]
fn a_registry_is_asked_with_user_and_password_and_they_go_nowhere_else() {
    let registry = Registry::start();
    registry.json("/base/schemas/ids/1", 200, &json!({"schema": "\"long\""}));
    registry.json("/base/schemas/ids/2", 401, &json!({"error_code": 401}));
    let elsewhere = Registry::start();
    elsewhere.avro(3, &json!("long"));
    registry.answer("/base/schemas/ids/3", Answer::Redirect(format!("{}/schemas/ids/3", elsewhere.address)));
    // What Cargo gives every test serves as a password: `thyme-sources`.
    let mut settings = json!({
        "topic": "t", "format": "avro", "schema_registry": format!("{}/base/", registry.address),
        "schema_registry_username": "ann", "schema_registry_password": {"env": "CARGO_PKG_NAME"},
    });
    let mut asking = schemas(&settings, SHORT);
    assert_eq!(number(&mut asking, 1), Ok(json!(7)));
    let asked = registry.asked()[0].clone();
    assert!(asked.contains("Basic YW5uOnRoeW1lLXNvdXJjZXM="), "{asked}");
    let error = stop(&mut asking, 2).to_string();
    assert!(!error.contains("thyme-sources") && !error.contains("ann"), "{error}");
    assert_eq!(number(&mut asking, 3), Ok(json!(7)));
    assert_eq!(elsewhere.asked(), ["/schemas/ids/3 "]);
    settings["schema_registry_password"] = json!({"env": "THYME_NO_SUCH_VARIABLE"});
    let error = stop(&mut schemas(&settings, SHORT), 1);
    assert!(error.to_string().contains("THYME_NO_SUCH_VARIABLE of 'schema_registry_password' is not set"), "{error}");
    settings["schema_registry_username"] = Json::Null;
    let error = stop(&mut schemas(&settings, SHORT), 1);
    assert_eq!(error.field_name(), Some("schema_registry_username"), "{error}");
    settings["schema_registry"] = Json::Null;
    let error = stop(&mut schemas(&settings, SHORT), 1);
    assert!(
        error.kind() == ErrorKind::FailedPrecondition && error.to_string().contains("SCHEMA_REGISTRY_URL"),
        "{error}"
    );
}

#[test]
fn wrong_settings_of_a_registry_are_refused_at_commit() {
    for (settings, part) in [
        (json!({"schema_registry": "http://ann:hunter2@a"}), "schema_registry_username"),
        (json!({"schema_registry": "http://a?token=hunter2"}), "no http:// or https:// address"),
        (json!({"schema_registry": "http://a#hunter2"}), "no http:// or https:// address"),
        (json!({"schema_registry": "a:80"}), "no http:// or https:// address"),
        (json!({"schema_registry": "ftp://a"}), "no http:// or https:// address"),
        (json!({"schema_registry": "http://a:1,http://b:1"}), "one only"),
        (json!({"schema_registry": 7}), "setting 'schema_registry' is a text"),
        (json!({"schema_registry_username": 7}), "setting 'schema_registry_username' is a text"),
        (json!({"schema_registry_password": "hunter2"}), "write schema_registry_password=Secret(env="),
        (json!({"format": "json", "schema_registry": "http://a"}), "format \"json\" takes no schema_registry"),
        (json!({"format": "json", "schema_registry_username": "a"}), "takes no schema_registry_username"),
    ] {
        let mut all = json!({"topic": "t", "format": "avro"});
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        let error = settings_of(&all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
        assert!(error.to_string().contains(part), "{settings}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn references_are_followed_each_once_and_never_in_a_circle() {
    let registry = Registry::start();
    let reference =
        |name: &str, version: u32| json!({"name": name, "subject": format!("s/{name}"), "version": version});
    let place = |name: &str, version: u32| format!("/subjects/s%2F{name}/versions/{version}");
    let record = |name: &str, of: &[&str]| {
        let fields = of.iter().map(|of| json!({"name": of, "type": of})).collect::<Json>();
        json!({"type": "record", "name": name, "fields": fields}).to_string()
    };
    let put = |path: &str, schema: String, references: &[Json]| {
        registry.json(path, 200, &json!({"schema": schema, "references": references}));
    };
    // A needs B and C, B needs C, in this order.
    put("/schemas/ids/1", record("A", &["B", "C"]), &[reference("B", 2), reference("C", 3)]);
    put(&place("B", 2), record("B", &["C"]), &[reference("C", 3)]);
    put(&place("C", 3), json!({"type": "fixed", "name": "C", "size": 1}).to_string(), &[]);
    let mut schemas = registry.schemas("avro", SHORT);
    let read = schemas.read(&framed(1, &[1, 2])).unwrap().unwrap();
    assert_eq!(read.shown(), json!({"B": {"C": "0x01"}, "C": "0x02"}));
    assert_eq!(registry.asked().len(), 3);
    put("/schemas/ids/2", record("D", &["E"]), &[reference("E", 1)]);
    put(&place("E", 1), record("E", &["F"]), &[reference("F", 1)]);
    put(&place("F", 1), record("F", &["E"]), &[reference("E", 1)]);
    let error = stop(&mut schemas, 2);
    assert!(error.to_string().contains("in a circle: 'E' -> 'F' -> 'E'"), "{error}");
    put("/schemas/ids/3", record("G", &["H"]), &[reference("H", 9)]);
    let error = stop(&mut schemas, 3);
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("no version 9 of 's/H', which a schema refers to as 'H'"), "{error}");
}
