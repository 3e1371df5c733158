//! Files that only this user can read, since they name workloads and addresses.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{StoreError, atomic};

/// Puts `text` in the place of a file that only this user may read, whole or not at all. Directories
/// that are missing are made for this user alone. A link is followed; anything but a file is refused.
pub fn write_private(path: &Path, text: &str) -> Result<(), StoreError> {
    let error = |e| StoreError::write(path, e);
    let target = match fs::canonicalize(path) {
        Ok(target) if target.is_file() => target,
        Ok(_) => return Err(error(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(e) => return Err(error(e)),
    };
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_private(directory).map_err(|e| StoreError::Create { path: directory.to_owned(), source: e })?;
    // tempfile's own mode is 0600.
    let mut file = tempfile::Builder::new()
        .prefix(atomic::TEMP_PREFIX)
        .suffix(atomic::TEMP_SUFFIX)
        .tempfile_in(directory)
        .map_err(error)?;
    file.write_all(text.as_bytes()).map_err(error)?;
    file.as_file().sync_all().map_err(error)?;
    file.persist(&target).map_err(|e| error(e.error))?;
    atomic::sync_directory(directory);
    Ok(())
}

/// Takes a file that cannot be used out of the way: under another name beside it, which is given. What stood under
/// that name is gone.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("json.damaged");
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// A directory that only this user can look into, with those above it that are missing.
pub(super) fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn private_files_are_whole_and_for_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/health.json");
        write_private(&path, "one").unwrap();
        write_private(&path, "two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        // Through a link, which stays; never in the place of a directory or a device.
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_private(&link, "three").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert!(
            write_private(dir.path(), "x").is_err() && write_private(Path::new("/dev/null"), "x").is_err()
        );
        let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays");
    }
}
