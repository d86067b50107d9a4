//! An S3 server for the tests: moto's, a program of its own that speaks the protocol over HTTP. It ends with this process.

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::prefix::PrefixStore;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

const SERVE: &str = r#"
import sys
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://127.0.0.1:{port}"
keys = dict(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="thyme")
print(url, flush=True)
sys.stdin.read()
"#;

struct Server {
    url: String,
    /// Reads its standard input to the end, which comes when this process is gone.
    _process: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let python = python();
        let mut process = Command::new(&python)
            .args(["-c", SERVE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://"), "no S3 server from {}: run tools/s3.sh .venv first", python.display());
        Server { url: url.trim().to_string(), _process: process }
    })
}

/// The interpreter that has moto: of the repository's virtual environment, or `THYME_TEST_PYTHON`.
fn python() -> PathBuf {
    match std::env::var_os("THYME_TEST_PYTHON") {
        Some(given) => given.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python"),
    }
}

/// An empty prefix of the server's bucket.
pub fn fresh_store(name: &str) -> Arc<dyn ObjectStore> {
    let store = AmazonS3Builder::new()
        .with_endpoint(&server().url)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("thyme")
        .with_access_key_id("test")
        .with_secret_access_key("test")
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()
        .unwrap();
    Arc::new(PrefixStore::new(store, name))
}
