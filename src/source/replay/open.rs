//! Opens an input: told by its first bytes, not by its name.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::follow::Follow;
use super::reader::{CHUNK, Shared};
use super::{Input, Problem, ProblemKind};
use crate::text;

/// Bytes that tell what a file is.
const HEAD: usize = 6;
/// The largest window that a zstd frame may ask for, as an exponent of two: 128 MiB, what `zstd -d`
/// allows too.
const ZSTD_WINDOW: u32 = 27;

/// Opens an input and looks at its first bytes; with it comes whether it is to be read eagerly.
pub(super) fn open(
    input: &Input,
    name: &str,
    shared: &Arc<Shared>,
) -> Result<(Box<dyn Read>, bool), Problem> {
    let unreadable = |why: &str| Problem { kind: ProblemKind::Unreadable, message: format!("{name}: {why}") };
    let (mut source, eager): (Box<dyn Read>, bool) = match input {
        Input::Stdin => (Box::new(io::stdin().lock()), true),
        Input::File(path) => open_file(path).map_err(|error| unreadable(&file_error(&error, name)))?,
        Input::Follow(path) => return Ok((Box::new(Follow::new(path, Arc::clone(shared))), true)),
    };
    let head = head(&mut source).map_err(|error| {
        unreadable(&format!("reading failed: {}", text::visible(&error.to_string(), 200)))
    })?;
    match format_of(&head) {
        Format::Plain => Ok((Box::new(Cursor::new(head).chain(source)), eager)),
        Format::Refused(why) => Err(unreadable(why)),
        format => unpack(format, head, source).map(|source| (source, false)).map_err(|error| {
            unreadable(&format!("decompressing failed: {}", text::visible(&error.to_string(), 200)))
        }),
    }
}

/// A rotated file, plain or compressed.
pub(super) fn unpacked(file: File) -> io::Result<Box<dyn Read>> {
    let mut source: Box<dyn Read> = Box::new(file);
    let head = head(&mut source)?;
    match format_of(&head) {
        Format::Refused(why) => Err(io::Error::other(why)),
        format => unpack(format, head, source),
    }
}

enum Format {
    Plain,
    Gzip,
    Zstd,
    Refused(&'static str),
}

fn head(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    source.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn format_of(head: &[u8]) -> Format {
    match *head {
        [0x1f, 0x8b, ..] => Format::Gzip,
        // A frame, or one that is to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        // Also without a byte order mark: an ASCII character beside a zero byte.
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] => Format::Refused(
            "the text is UTF-16 (PowerShell's > writes it); write it as UTF-8, or convert it with iconv -f UTF-16 -t UTF-8",
        ),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Refused("xz is not read; decompress it first (xz -d)"),
        [b'B', b'Z', b'h', ..] => Format::Refused("bzip2 is not read; decompress it first (bzip2 -d)"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Format::Refused("lz4 is not read; decompress it first (lz4 -d)"),
        [b'P', b'K', 3, 4, ..] => {
            Format::Refused("this is a zip archive; unpack it first and name the files in it")
        }
        _ => Format::Plain,
    }
}

fn unpack(format: Format, head: Vec<u8>, source: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    let whole = BufReader::with_capacity(CHUNK / 4, Cursor::new(head).chain(source));
    Ok(match format {
        Format::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Format::Plain | Format::Refused(_) => Box::new(whole),
    })
}

/// What is no regular file (a pipe, a device) is read eagerly.
fn open_file(path: &Path) -> io::Result<(Box<dyn Read>, bool)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(File::open(path)?), !metadata.is_file()))
}

/// What went wrong with a file, with what to do.
pub(super) fn file_error(error: &io::Error, name: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not read it; change its permissions or run as its owner".to_owned()
        }
        io::ErrorKind::IsADirectory => {
            format!("this is a directory; name the files in it, for example {name}/*.jsonl")
        }
        _ => format!("it cannot be opened: {}", text::visible(&error.to_string(), 200)),
    }
}
