//! Compiles `proto/` with protox, so that no `protoc` is needed, and keeps the descriptor set for server reflection.

use prost::Message as _;
use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 6] = ["v1/common", "v1/control", "v1/ingest", "v1/feature", "v1/export", "internal/v1/part"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = FILES.map(|name| root.join(format!("thyme/{name}.proto")));
    let descriptors = protox::compile(&files, [&root])?;
    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("thyme.v1.descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().btree_map(".").bytes(".").compile_fds(descriptors)?;
    Ok(())
}
