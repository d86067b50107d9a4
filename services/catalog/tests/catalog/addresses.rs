//! `catalog.url`, and that no password of it is shown.

use thyme_catalog::{PostgresSettings, redacted};

#[test]
fn no_password_is_shown() {
    let settings = PostgresSettings::parse("postgres://thyme:hunter2@db:6543/features?sslmode=require").unwrap();
    assert_eq!(format!("{settings:?}"), "postgres://thyme@db:6543/features");
    let settings = PostgresSettings::parse("postgresql://db/features?user=thyme&password=hunter2").unwrap();
    assert_eq!(settings.place(), "postgres://thyme@db:5432/features");
    let settings = PostgresSettings::parse("postgres://thyme:hunter2@%2Fvar%2Frun/features").unwrap();
    assert_eq!(settings.place(), "postgres://thyme@/var/run:5432/features");
    for url in [
        "postgres://thyme:hunter2@db:port/features",
        "postgres://thyme:hun/ter2@db/features",
        "postgres://thyme:12/hunter2@db/features",
        "postgres://thyme:12#hunter2@db/features",
        "postgres://thyme:hunter2@db",
        "postgres://thyme:12/x?hunter2@db/features",
        "postgres://thyme:hunter2@db/features?sslmode=hunter",
        "postgres://thyme:hunter2@db/features?sslmod=require",
    ] {
        let error = PostgresSettings::parse(url).unwrap_err();
        assert_eq!(error.field_name(), Some("catalog.url"), "{url}");
        assert!(error.hint_text().is_some(), "{url}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = PostgresSettings::parse("postgres://db/features?sslmod=require").unwrap_err();
    assert!(error.to_string().contains("did you mean 'sslmode'"), "{error}");
    assert_eq!(redacted("postgre://thyme:hunter2@db/features"), "postgre://…");
    assert_eq!(redacted("thyme:hunter2@db"), "…");
    assert_eq!(redacted("sqlight:"), "sqlight:");
}
