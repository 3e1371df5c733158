//! Compiles the trimmed Hubble protos with protox, so that no protoc is needed.
//!
//! `source` and `destination` of a flow are `bytes` in our proto (the wire form of a message and of
//! bytes is the same): an endpoint is decoded once and found again by its bytes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["observer/observer.proto", "health/health.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".flow.Flow.source")
        .bytes(".flow.Flow.destination")
        .compile_fds(descriptors)?;
    // Whole messages have no types of their own: cpg capture reads them by their descriptors.
    let mut whole = protox::Compiler::new(["proto"])?;
    whole.include_imports(true).open_files(["whole/observer.proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    #[allow(clippy::disallowed_methods, reason = "no file that people commit")]
    std::fs::write(out.join("whole.bin"), whole.encode_file_descriptor_set())?;
    Ok(())
}
