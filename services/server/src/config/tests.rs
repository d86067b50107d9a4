use super::*;
use serde_json::json;

fn load(toml: &str, environment: &[(&str, &str)], flags: serde_json::Value) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("thyme.toml");
    std::fs::write(&path, toml).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(Some(&path), environment, &flags)
}

#[test]
fn nothing_at_all_works() {
    let config = load("", &[], json!({})).unwrap();
    assert_eq!(config.data_dir, PathBuf::from(".thyme"));
    assert_eq!(config.control_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.query_addr.to_string(), "127.0.0.1:8081");
    assert_eq!(config.clock, ClockMode::Wall);
    assert!(config.query.run_log);
}

#[test]
fn flags_win_over_environment_over_file() {
    let toml = "data_dir = 'a'\n[server]\nclock = 'event'\ncontrol_addr = '127.0.0.1:1'\nquery_addr = '127.0.0.1:11'\n";
    let environment =
        [("THYME_SERVER__CONTROL_ADDR", "127.0.0.1:2"), ("THYME__DATA_DIR", "b"), ("THYME_BASE_URL", "x")];
    let config = load(toml, &environment, json!({"data_dir": "c"})).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("c"));
    assert_eq!(config.control_addr.port(), 2);
    assert_eq!(config.query_addr.port(), 11);
    assert_eq!(config.clock, ClockMode::Event);
    let config = load(toml, &environment, json!({"data_dir": null})).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("b"));
}

#[track_caller]
fn refused(toml: &str, environment: &[(&str, &str)], flags: serde_json::Value, parts: &[&str]) {
    let error = load(toml, environment, flags).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "'{part}' is missing in: {error}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    refused(
        "[server]\ncontrol_adr = ':1'",
        &[],
        json!({}),
        &["server.control_adr", "did you mean 'server.control_addr'"],
    );
    refused("", &[("THYME_SERVER__CLOK", "x")], json!({}), &["THYME_SERVER__CLOK", "server.clock"]);
    refused("", &[], json!({"quary": {"run_log": true}}), &["quary.run_log", "query.run_log"]);
    refused("[server]\nclock = 'lunar'", &[], json!({}), &["server.clock", "lunar", "wall or event", "thyme.toml"]);
    refused("[query]\nextractor_workers = 0", &[], json!({}), &["extractor_workers", "from 1 to 256"]);
    refused("x = [", &[], json!({}), &["not valid TOML", "thyme.toml"]);
    refused("[log]\nurl = 'kafka://b'", &[], json!({}), &["'b' is not host:port", "kafka://host:port"]);
    refused("[log]\nurl = 'kafak://b:9092'", &[], json!({}), &["log.url", "embedded or kafka:"]);
    refused("[log]\nreplication = 0", &[], json!({}), &["log.replication", "a number of copies"]);
    refused("[log]\nslices = 0", &[], json!({}), &["log.slices", "from 1 to 64"]);
    refused("[log]\nslices = 4", &[], json!({}), &["log.slices is set, and log.url is not a Kafka broker"]);
    refused("[log.kafka]\nacks = 1", &[], json!({}), &["\"acks\" is set, and log.url is not a Kafka broker"]);
    refused("[server]\nquery_addr = ':8080'", &[], json!({}), &["the same"]);
}

#[test]
fn only_loopback_is_listened_on() {
    for address in ["0.0.0.0:8080", "192.168.1.5:8080", "[::]:8080"] {
        refused("", &[("THYME_SERVER__CONTROL_ADDR", address)], json!({}), &[address, "loopback", "API keys"]);
    }
    for address in ["localhost:9000", ":9000", "127.0.0.1:9000", "[::1]:9000"] {
        assert!(load("", &[("THYME_SERVER__CONTROL_ADDR", address)], json!({})).is_ok(), "{address}");
    }
}

fn kafka(config: Config) -> thyme_log::KafkaSettings {
    let LogConfig::Kafka(settings) = config.log else { panic!("{:?}", config.log) };
    settings
}

#[test]
fn kafka_properties_pass_through_from_every_place() {
    let toml = "[log]\nurl = 'kafka://a:1/shop'\nreplication = 3\nslices = 4\n[log.kafka]\n'security.protocol' = 'SSL'\nlinger.ms = 7\n";
    let environment =
        [("THYME_LOG__KAFKA__SASL_PASSWORD", "hunter2"), ("THYME_LOG__KAFKA__SECURITY_PROTOCOL", "SASL_SSL")];
    let settings = kafka(load(toml, &environment, json!({"log": {"kafka": {"linger.ms": "9"}}})).unwrap());
    assert_eq!((settings.brokers.as_str(), settings.prefix.as_str(), settings.replication), ("a:1", "shop", Some(3)));
    assert_eq!(settings.slices, Some(4));
    assert_eq!(kafka(load("[log]\nurl = 'kafka://a:1'", &[], json!({})).unwrap()).slices, None);
    let expected = [("linger.ms", "9"), ("sasl.password", "hunter2"), ("security.protocol", "SASL_SSL")];
    assert!(settings.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected));
    assert!(!format!("{settings:?}").contains("hunter2"));
    refused(
        &toml.replace("linger.ms", "isolation.level"),
        &[],
        json!({}),
        &["isolation.level", "only committed records"],
    );
}

#[test]
fn the_catalog_is_a_file_or_a_database() {
    assert!(matches!(load("", &[], json!({})).unwrap().catalog, CatalogConfig::Sqlite));
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://thyme:hunter2@db/features");
        let config = load("", &[("THYME_CATALOG__URL", &url)], json!({})).unwrap();
        assert!(format!("{config:?}").contains("postgres://thyme@db:5432/features"), "{config:?}");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
    refused("[catalog]\nurl = 'sqlite:other.db'", &[], json!({}), &["catalog.url", "sqlite: alone"]);
    refused("[catalog]\nurl = 'postgres://db'", &[], json!({}), &["names no database", "postgres://USER:PASSWORD"]);
    for url in ["postgre://thyme:hunter2@db/features", "postgres://thyme:hunter2@db/features?ssl=on"] {
        let error = load("", &[("THYME_CATALOG__URL", url)], json!({})).unwrap_err().to_string();
        assert!(error.contains("catalog.url") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_missing_config_file_is_an_error() {
    let error = Config::load(Some(Path::new("no/such/file.toml")), [], &json!({})).unwrap_err();
    assert!(error.message().contains("no/such/file.toml"), "{error}");
}

#[test]
fn checkpoints_are_off_unless_a_url_is_given() {
    assert!(load("", &[], json!({})).unwrap().checkpoints.is_none());
    let toml = "[checkpoints]\nurl = 's3://bucket/prefix'\ninterval_s = 60\n";
    let given = load(toml, &[("THYME_CHECKPOINTS__KEEP", "7")], json!({})).unwrap().checkpoints.unwrap();
    assert_eq!((given.url.as_str(), given.interval, given.keep), ("s3://bucket/prefix", Duration::from_secs(60), 7));
    assert_eq!(given.s3_endpoint, None);
    let error = load("[checkpoints]\nkeep = 0\n", &[], json!({})).unwrap_err();
    assert!(error.message().starts_with("checkpoints.keep is '0'"), "{error}");
}
