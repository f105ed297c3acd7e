//! Where things are: the workspace, the images, the cache of foreign packages.
//!
//! Every other file asks here, so that `CARGO_TARGET_DIR` and `XENOLITH_CACHE` are honoured everywhere alike.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders that the commands read and write.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    target: PathBuf,
    foreign: PathBuf,
}

impl Paths {
    /// Finds the workspace from the place this program was built in, and the target folder as cargo would.
    pub fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).context("tools/xtask is not two folders below the workspace")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        let foreign = match std::env::var_os("XENOLITH_CACHE") {
            Some(dir) => std::path::absolute(dir)?,
            None => target.join("foreign"),
        };
        Ok(Self { root, target, foreign })
    }

    /// The top folder of the repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The folder of the finished images.
    pub fn images(&self) -> PathBuf {
        self.target.join("xenolith")
    }

    /// One finished image (or its `.elf`) by name.
    pub fn image(&self, name: &str) -> PathBuf {
        self.images().join(name)
    }

    /// The cache of packages made elsewhere; a clean build may keep it (`XENOLITH_CACHE` moves it).
    pub fn foreign(&self) -> &Path {
        &self.foreign
    }
}

/// True when `output` exists and none of `inputs` is newer.
///
/// An input that cannot be read counts as newer, so that the step which needs it reports it by name.
pub fn is_fresh(output: &Path, inputs: &[&Path]) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified());
    let Ok(made) = modified(output) else {
        return false;
    };
    inputs.iter().all(|input| modified(input).is_ok_and(|time| time <= made))
}

/// Writes a file, but leaves one that holds the same, with its date, as it is.
pub fn write_if_changed(file: &Path, data: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|had| had == data) {
        return Ok(());
    }
    std::fs::write(file, data).with_context(|| format!("cannot write {}", file.display()))
}
