//! The store that a URL names: `file:///folder` or `s3://bucket/prefix`.

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};

/// What an S3-compatible service needs beyond the usual AWS environment variables, from which credentials come.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Of a service that is not AWS, such as `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
}

/// Of one request. Whoever takes checkpoints tries again anyway, and a server that starts must not wait for long.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(20), ..RetryConfig::default() }
}

/// Opens the store; nothing is asked of it yet.
pub fn open_store(url: &str, s3: &S3Options) -> Result<Arc<dyn ObjectStore>> {
    if url.contains('@') {
        // Not repeated: what stands there may be a password.
        return Err(Error::invalid("checkpoints.url must not have a user or a password in it")
            .field("checkpoints.url")
            .hint(
                "credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from the role of the machine",
            ));
    }
    let wrong = |why: &str| {
        Error::invalid(format!("checkpoints.url = '{url}': {why}"))
            .field("checkpoints.url")
            .hint("file:///folder or s3://bucket/prefix")
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("not a URL"))?;
    match scheme {
        "file" => {
            if !rest.starts_with('/') {
                return Err(wrong("the folder must be an absolute path"));
            }
            open_folder(Path::new(rest)).map_err(|error| wrong(&error.to_string()))
        }
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("it names no bucket"));
            }
            let store = s3_builder(bucket, s3).build().map_err(|error| wrong(&error.to_string()))?;
            Ok(within(store, prefix))
        }
        _ => Err(wrong(&format!("unknown scheme '{scheme}'"))),
    }
}

fn open_folder(folder: &Path) -> std::result::Result<Arc<dyn ObjectStore>, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(folder)?))
}

fn s3_builder(bucket: &str, options: &S3Options) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry());
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    builder
}

fn within(store: impl ObjectStore, prefix: &str) -> Arc<dyn ObjectStore> {
    match prefix.trim_matches('/') {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt as _;
    use object_store::path::Path as ObjectPath;

    #[tokio::test]
    async fn a_folder_is_made_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("a").join("b");
        let store = open_store(&format!("file://{}", folder.display()), &S3Options::default()).unwrap();
        store.put(&ObjectPath::from("x/y"), "text".into()).await.unwrap();
        assert_eq!(std::fs::read(folder.join("x").join("y")).unwrap(), b"text");
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = open_store("s3://key:hunter2@bucket/x", &S3Options::default()).err().unwrap();
        assert!(error.message().contains("password") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_wrong_about_a_url_is_said() {
        for (url, part) in [
            ("folder", "not a URL"),
            ("file://folder", "absolute"),
            ("s3:///prefix", "no bucket"),
            ("gopher://hole", "unknown scheme 'gopher'"),
        ] {
            let error = open_store(url, &S3Options::default()).err().unwrap();
            assert!(error.message().contains(part), "{error}");
            assert_eq!(error.field_name(), Some("checkpoints.url"));
        }
    }
}
