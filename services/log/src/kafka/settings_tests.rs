use super::KafkaSettings;
use std::collections::BTreeMap;

fn properties(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn parse(url: &str) -> Result<KafkaSettings, String> {
    KafkaSettings::parse(url, None, BTreeMap::new()).map_err(|error| error.to_string())
}

#[test]
fn an_address_has_brokers_and_a_prefix() {
    let settings = parse("kafka://a:1,b.example:9092/shop").unwrap();
    assert_eq!((settings.brokers.as_str(), settings.prefix.as_str()), ("a:1,b.example:9092", "shop"));
    assert_eq!(settings.full_name("Order.v1"), "shop.Order.v1");
    assert_eq!(parse("kafka://a:1").unwrap().prefix, "thyme");
    assert_eq!(parse("kafka://a:1/").unwrap().prefix, "thyme");
}

#[test]
fn a_wrong_address_says_what_is_wrong() {
    for (url, part) in [
        ("kafka://", "'' is not host:port"),
        ("kafka://a", "'a' is not host:port"),
        ("kafka://a:b", "'a:b' is not host:port"),
        ("kafka://a:0", "'a:0' is not host:port"),
        ("kafka://a:1,:2", "':2' is not host:port"),
        ("kafka://a:1/shop/x", "the prefix 'shop/x'"),
        ("kafka://me:pw@a:1", "sasl.password"),
    ] {
        let error = parse(url).unwrap_err();
        assert!(error.contains(part), "'{part}' is missing in: {error}");
        assert!(!error.contains("pw@"), "{error}");
    }
}

#[test]
fn properties_that_carry_the_protocol_are_refused_with_the_reason() {
    for name in ["acks", "isolation.level", "enable.idempotence", "group.id", "transactional.id", "auto.offset.reset"] {
        let error = KafkaSettings::parse("kafka://a:1", None, properties(&[(name, "x")])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("[log.kafka] \"{name}\" cannot be set: ")), "{error}");
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    let given = [("sasl.password", "hunter2"), ("ssl.key.pem", "PRIVATE"), ("sasl.username", "ann")];
    let settings = KafkaSettings::parse("kafka://a:1", None, properties(&given)).unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("sasl.password") && !shown.contains("hunter2") && !shown.contains("PRIVATE"), "{shown}");
    assert_eq!(settings.hide_secrets("user ann, password hunter2: PRIVATE"), "user ann, password ***: ***");
}
