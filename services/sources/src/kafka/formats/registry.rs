//! What a schema registry may answer.

use super::server::{Answer, Registry, SHORT, schemas};
use super::{framed, settings_of, zigzag};
use crate::kafka::schemas::{Schemas, Waits};
use crate::settings::Environment;
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
fn what_is_wrong_with_the_registry_stops_the_source() {
    let registry = Registry::start();
    let by_id = |id: u32| format!("/schemas/ids/{id}");
    let body = |status, text: &str| Answer::Body(status, text.to_string());
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
    registry.json(&by_id(21), 404, &json!({"error_code": 404, "message": "HTTP 404 Not Found"}));
    let mut schemas = registry.schemas("avro", SHORT);
    let (fixed, waits) = (ErrorKind::FailedPrecondition, ErrorKind::Unavailable);
    for (id, kind, part) in [
        (11, waits, "answers 500"),
        (12, waits, "answers 404 Not Found (hint: check schema_registry"),
        (13, fixed, "refuses the server: 401"),
        (14, fixed, "schema_registry_password=Secret(env=…)"),
        (15, waits, "answers 429"),
        (16, waits, "answers something else than a schema"),
        (17, waits, "answers something else than a schema"),
        (18, waits, "does not answer"),
        (19, waits, "answers something else than a schema"),
        (21, waits, "answers 404"),
    ] {
        let error = stop(&mut schemas, id);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{id}: {error}");
        // Once it is put right, it is read.
        registry.avro(id, &json!("long"));
        assert_eq!(number(&mut schemas, id), Ok(json!(7)));
    }
}

#[test]
fn a_schema_that_cannot_be_read_is_a_reason_for_the_dead_letters_and_no_stop() {
    let registry = Registry::start();
    registry.protobuf(9, "message M { }");
    registry.json("/schemas/ids/10", 200, &json!({"schema": "{\"type\": \"record\"}"}));
    registry.json("/schemas/ids/11", 200, &json!({"schema": "{}", "schemaType": "JSON"}));
    registry.avro(12, &json!("long"));
    let mut schemas = registry.schemas("avro", SHORT);
    for _ in 0..2 {
        for (id, told) in [
            (9, "schema 9: it is of type PROTOBUF, and the source reads avro (hint: write format=\"protobuf\")"),
            (10, "schema 10: the schema has no valid 'name' of a type"),
            (11, "schema 11: it is of type JSON, and the source reads avro (hint: write format=\"json\")"),
        ] {
            assert_eq!(number(&mut schemas, id), Err(told.to_string()));
        }
        assert_eq!(number(&mut schemas, 12), Ok(json!(7)));
    }
    // Each was asked for once.
    assert_eq!(registry.asked().len(), 4);
    registry.protobuf(22, "message {");
    let mut schemas = registry.schemas("protobuf", SHORT);
    let error = number(&mut schemas, 22).unwrap_err();
    assert!(error.starts_with("schema 22: the schema is not valid"), "{error}");
    let error = number(&mut schemas, 12).unwrap_err();
    assert!(error.contains("schema 12: it is of type AVRO"), "{error}");
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
    registry.answer("/base/schemas/ids/3", Answer::Redirect(format!("{}/schemas/ids/3", elsewhere.address)));
    registry.answer("/base/schemas/ids/4", Answer::Redirect("/base/schemas/ids/1".to_string()));
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
    for id in [3, 4] {
        let error = stop(&mut asking, id);
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.to_string().contains("answers 302 Found: it is at another address"), "{error}");
    }
    assert_eq!((elsewhere.asked().len(), registry.asked().len()), (0, 4));
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

/// The server's environment of a test.
fn own(name: &str) -> Option<String> {
    let value = match name {
        "SCHEMA_REGISTRY_URL" => "https://registry:8081/base/",
        "SCHEMA_REGISTRY_USERNAME" => "server",
        "SCHEMA_REGISTRY_PASSWORD" => "hunter2",
        _ => return None,
    };
    Some(value.to_string())
}

fn nowhere(name: &str) -> Option<String> {
    own(name).filter(|_| name != "SCHEMA_REGISTRY_URL")
}

fn malformed(name: &str) -> Option<String> {
    own(name).map(|value| value.replace("https:", "hunter2:"))
}

#[test]
fn the_password_of_the_environment_goes_where_the_environment_says() {
    let address = |more: Json, environment: Environment| {
        let mut settings = json!({"topic": "t", "format": "avro"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings_of(&settings).unwrap().registry.address_in(environment)
    };
    let login = |more: Json, environment: Environment| address(more, environment).unwrap().login;
    let pair = |user: &str, password: Option<&str>| Some((user.to_string(), password.map(str::to_string)));
    // To its own place, whatever the path, and as whom the definition says.
    for url in [json!(null), json!("https://registry:8081/base"), json!("https://REGISTRY:8081/other/")] {
        assert_eq!(login(json!({"schema_registry": url}), own), pair("server", Some("hunter2")), "{url}");
        let ann = json!({"schema_registry": url, "schema_registry_username": "ann"});
        assert_eq!(login(ann, own), pair("ann", Some("hunter2")));
    }
    let others = ["http://registry:8081/base/", "https://registry/base/", "https://registry.example.com:8081/base/"];
    let others = others.map(|url| (url, own as Environment));
    let others = others.into_iter().chain([
        ("https://registry:8081", nowhere as Environment),
        ("https://registry:8081", malformed as Environment),
    ]);
    for (url, environment) in others {
        assert!(address(json!({"schema_registry": url}), environment).unwrap().url.as_str().starts_with(url));
        assert_eq!(login(json!({"schema_registry": url}), environment), None, "{url}");
        let mut named = json!({"schema_registry": url, "schema_registry_username": "ann"});
        assert_eq!(login(named.clone(), environment), pair("ann", None));
        named["schema_registry_password"] = json!({"env": "CARGO_PKG_NAME"});
        assert_eq!(login(named.clone(), environment), pair("ann", Some("thyme-sources")));
        // Only the user is left out, and is no secret.
        named["schema_registry_username"] = Json::Null;
        assert_eq!(login(named, environment), pair("server", Some("thyme-sources")));
    }
    let named = [(nowhere as Environment, "SCHEMA_REGISTRY_URL"), (malformed as Environment, "SCHEMA_REGISTRY_URL: ")];
    for (environment, part) in named {
        let error = address(json!({}), environment).err().unwrap().to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
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
        (json!({"schema_registry_password": {"env": "SCHEMA_REGISTRY_PASSWORD"}}), "a secret of the server's own"),
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

#[test]
fn what_belongs_to_one_schema_has_an_end() {
    let registry = Registry::start();
    let reference = |name: String| json!({"name": name, "subject": name, "version": 1});
    let put = |path: &str, schema: String, references: &Json| {
        registry.json(path, 200, &json!({"schema": schema, "references": references}));
    };
    let enumeration = |name: &str| json!({"type": "enum", "name": name, "symbols": ["A"]});
    let many = |count: usize| {
        let names = (0..count).map(|at| format!("E{at}"));
        for name in names.clone() {
            put(&format!("/subjects/{name}/versions/1"), enumeration(&name).to_string(), &json!([]));
        }
        names.map(reference).collect::<Json>()
    };
    put("/schemas/ids/1", "\"E199\"".to_string(), &many(200));
    put("/schemas/ids/2", "\"E199\"".to_string(), &many(201));
    let mut schemas = registry.schemas("avro", SHORT);
    assert_eq!(schemas.read(&framed(1, &[0])).unwrap().unwrap().shown(), json!("A"));
    let error = stop(&mut schemas, 2);
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.to_string().contains("refers to more than 200 others"), "{error}");
    // Each answer is small enough, and all together are not.
    for name in ["L0", "L1"] {
        let mut large = enumeration(name);
        large["doc"] = json!("x".repeat(9 << 20));
        put(&format!("/subjects/{name}/versions/1"), large.to_string(), &json!([]));
    }
    put("/schemas/ids/3", "\"L0\"".to_string(), &json!([reference("L0".to_string())]));
    put("/schemas/ids/4", "\"L1\"".to_string(), &json!([reference("L0".to_string()), reference("L1".to_string())]));
    assert_eq!(schemas.read(&framed(3, &[0])).unwrap().unwrap().shown(), json!("A"));
    let error = stop(&mut schemas, 4);
    assert!(error.to_string().contains("or to more than 16777216 bytes"), "{error}");
    // Each comes in time, and all together do not.
    let slow: Vec<String> = (0..100).map(|at| format!("S{at}")).collect();
    for name in &slow {
        let body = json!({"schema": enumeration(name).to_string()}).to_string();
        registry.answer(&format!("/subjects/{name}/versions/1"), Answer::Late(Duration::from_millis(100), body));
    }
    put("/schemas/ids/5", "\"S0\"".to_string(), &slow.into_iter().map(reference).collect::<Json>());
    let error = stop(&mut registry.schemas("avro", Waits { schema: Duration::from_millis(500), ..SHORT }), 5);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("not answer in time for all that a schema refers to"), "{error}");
    assert!(registry.asked().iter().filter(|path| path.contains("/S")).count() < 10);
}
