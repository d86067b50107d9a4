//! What the tests share: directories like a state's, and a store that lets a test in between its calls. Below it is always a real
//! store.

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use std::path::Path;
use std::sync::Arc;
use thyme_checkpoint::{Check, Facts, Place};

/// Writes a directory like a checkpoint of the state after `ticks` ticks: tables that stay, one for each tick, and small files that
/// change each time.
pub fn fill(directory: &Path, ticks: u64) {
    std::fs::create_dir_all(directory).unwrap();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(directory.join(name), bytes).unwrap();
    for tick in 0..ticks {
        // The first is large enough to go up in parts.
        let size = if tick == 0 { (8 << 20) + 12_345 } else { 3_000 + tick as usize };
        write(&format!("{:06}.sst", tick + 10), pattern(size, tick));
    }
    write("MANIFEST-000004", pattern(200, 1_000 + ticks));
    write("CURRENT", b"MANIFEST-000004\n".to_vec());
    write("000005.log", Vec::new());
    // Not part of a checkpoint.
    write("LOCK", Vec::new());
    write("LOG", b"opened".to_vec());
}

fn pattern(size: usize, seed: u64) -> Vec<u8> {
    (0..size as u64).map(|index| ((index ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub const LOG: &str = "the log of the tests";

pub fn facts(ticks: u64) -> Facts {
    Facts {
        log: LOG.to_string(),
        commit: "c1".to_string(),
        created_at: 1_700_000_000_000_000 + ticks as i64,
        digest: format!("{ticks:032x}"),
        places: vec![Place { consumer: 1, partition: 0, next_offset: ticks * 100 }],
    }
}

/// Nothing more to look at than the files.
pub fn files_only() -> Check {
    Arc::new(|_, _| Ok(()))
}

/// Name and bytes of every file, except those that are no part of a checkpoint.
pub fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|item| item.unwrap())
        .map(|item| (item.file_name().into_string().unwrap(), std::fs::read(item.path()).unwrap()))
        .filter(|(name, _)| name != "LOCK" && name != "LOG")
        .collect();
    found.sort();
    found
}

/// A call to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Put,
    PutParts,
    Get,
    List,
    Delete,
}

pub type Hook = Arc<dyn Fn(Call, ObjectPath) -> BoxFuture<'static, object_store::Result<()>> + Send + Sync>;

/// Asks `before` before every call, which may wait, fail it, or end the process.
pub struct Watched {
    pub inner: Arc<dyn ObjectStore>,
    pub before: Hook,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}, watched", self.inner)
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, watched", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        (self.before)(Call::Put, location.clone()).await?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        (self.before)(Call::PutParts, location.clone()).await?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        (self.before)(Call::Get, location.clone()).await?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        let before = self.before.clone();
        let asked = locations.and_then(move |location| {
            let answer = before(Call::Delete, location.clone());
            async move { answer.await.map(|()| location) }
        });
        self.inner.delete_stream(asked.boxed())
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let answer = (self.before)(Call::List, prefix.cloned().unwrap_or_default());
        futures::stream::once(async move { answer.await.map(|()| listed) }).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
