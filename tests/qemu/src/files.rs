//! Files of `/store`, looked at from the host once the machine is off.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use fatfs::{FileSystem, FsOptions};

/// A whole file of an image; its path is the one that Dom0 has for it.
///
/// # Errors
/// There is no such image or file.
pub fn read(image: &Path, path: &str) -> Result<Vec<u8>> {
    let failed = || format!("cannot read {path} in {}", image.display());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(image).with_context(failed)?;
    let system = FileSystem::new(file, FsOptions::new()).with_context(failed)?;
    let inside = path.strip_prefix("/store/").unwrap_or(path);
    let mut bytes = Vec::new();
    system.root_dir().open_file(inside).with_context(failed)?.read_to_end(&mut bytes).with_context(failed)?;
    Ok(bytes)
}
