//! A capture on its way to disk: written beside its place, put there when it is whole.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::StoreError;
use super::atomic::{TEMP_PREFIX, TEMP_SUFFIX};

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How a capture is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Lines as they are.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A capture that is being written. Dropped without [`CaptureFile::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct CaptureFile {
    path: PathBuf,
    force: bool,
    packer: Packer,
}

enum Packer {
    Plain(BufWriter<NamedTempFile>),
    Gzip(GzEncoder<BufWriter<NamedTempFile>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<NamedTempFile>>),
}

// === impl Packing ===

impl Packing {
    /// By the ending of the file's name: `.jsonl`, `.json` or `.ndjson`, then `.gz`, `.zst` or nothing.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let lines = |name: &str| [".jsonl", ".json", ".ndjson"].iter().any(|end| name.ends_with(end));
        match name.rsplit_once('.') {
            Some((name, "gz")) if lines(name) => Some(Self::Gzip),
            Some((name, "zst")) if lines(name) => Some(Self::Zstd),
            _ => lines(&name).then_some(Self::Plain),
        }
    }
}

// === impl CaptureFile ===

impl CaptureFile {
    /// Begins a capture that is to be at `path`. A file that is there is left alone unless `force`, and even
    /// then until the new one is whole. The flows name pods and addresses: only this user can read it.
    ///
    /// # Errors
    ///
    /// When a file is there already, or the directory cannot be written.
    pub fn create(path: PathBuf, packing: Packing, force: bool) -> Result<Self, StoreError> {
        let error = |e| StoreError::capture(&path, e);
        if !force && path.symlink_metadata().is_ok() {
            return Err(error(taken()));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMP_PREFIX).suffix(TEMP_SUFFIX);
        builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600));
        let file = BufWriter::with_capacity(1 << 16, builder.tempfile_in(directory).map_err(error)?);
        let packer = match packing {
            Packing::Plain => Packer::Plain(file),
            Packing::Gzip => Packer::Gzip(GzEncoder::new(file, Compression::default())),
            Packing::Zstd => {
                Packer::Zstd(zstd::stream::write::Encoder::new(file, ZSTD_LEVEL).map_err(error)?)
            }
        };
        Ok(Self { path, force, packer })
    }

    /// Where it is to be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds to it.
    ///
    /// # Errors
    ///
    /// When the disk is full, or takes no more for another reason.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Self { path, packer, .. } = self;
        packer.writer().write_all(bytes).map_err(|e| StoreError::capture(path, e))
    }

    /// Completes it and puts it in its place; gives its size in bytes.
    ///
    /// # Errors
    ///
    /// As [`CaptureFile::write`], and when somebody else made a file of this name meanwhile.
    pub fn finish(self) -> Result<u64, StoreError> {
        let Self { path, force, packer } = self;
        let place = || -> io::Result<u64> {
            let file = match packer {
                Packer::Plain(file) => file,
                Packer::Gzip(packer) => packer.finish()?,
                Packer::Zstd(packer) => packer.finish()?,
            };
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            let size = file.as_file().metadata()?.len();
            match force {
                true => file.persist(&path).map_err(|e| e.error)?,
                false => file.persist_noclobber(&path).map_err(|e| match e.error.kind() {
                    io::ErrorKind::AlreadyExists => taken(),
                    _ => e.error,
                })?,
            };
            Ok(size)
        };
        place().map_err(|e| StoreError::capture(&path, e))
    }
}

fn taken() -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        "a file is there already: name another one, or give --force to replace it",
    )
}

// === impl Packer ===

impl Packer {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(file) => file,
            Self::Gzip(packer) => packer,
            Self::Zstd(packer) => packer,
        }
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Gzip(_) => "Gzip",
            Self::Zstd(_) => "Zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn packed_as_the_name_says() {
        for (name, packing) in [
            ("a.jsonl", Some(Packing::Plain)),
            ("a.JSON", Some(Packing::Plain)),
            ("a.ndjson.gz", Some(Packing::Gzip)),
            ("a.jsonl.zst", Some(Packing::Zstd)),
            ("a.gz", None),
            ("a.txt", None),
            ("a", None),
        ] {
            assert_eq!(Packing::of(Path::new(name)), packing, "{name}");
        }
    }

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        for (name, packing) in
            [("a.jsonl", Packing::Plain), ("a.jsonl.gz", Packing::Gzip), ("a.jsonl.zst", Packing::Zstd)]
        {
            let path = dir.path().join(name);
            let mut left = CaptureFile::create(path.clone(), packing, false).unwrap();
            left.write(b"half").unwrap();
            assert!(!path.exists());
            drop(left);
            let before = names();
            let mut whole = CaptureFile::create(path.clone(), packing, false).unwrap();
            whole.write(b"one\n").unwrap();
            let size = whole.finish().unwrap();
            assert_eq!((names(), path.metadata().unwrap().len()), (before + 1, size));
            let bytes = std::fs::read(&path).unwrap();
            let mut text = String::new();
            match packing {
                Packing::Plain => text = String::from_utf8(bytes).unwrap(),
                Packing::Gzip => {
                    flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
                }
                Packing::Zstd => {
                    zstd::stream::read::Decoder::new(&*bytes).unwrap().read_to_string(&mut text).unwrap();
                }
            }
            assert_eq!(text, "one\n");
            let error = CaptureFile::create(path.clone(), packing, false).unwrap_err().to_string();
            assert!(error.contains("--force"), "{error}");
            CaptureFile::create(path, packing, true).unwrap().finish().unwrap();
        }
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut ours = CaptureFile::create(path.clone(), Packing::Plain, false).unwrap();
        ours.write(b"ours").unwrap();
        let theirs = CaptureFile::create(path.clone(), Packing::Plain, false).unwrap();
        theirs.finish().unwrap();
        assert!(ours.finish().unwrap_err().to_string().contains("--force"));
        assert_eq!(path.metadata().unwrap().len(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
