//! What is kept in the repository: Xen's figures, so that it need not run each time, and Xenolith's, which may not grow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command;
use crate::paths::Paths;

/// The record of what the paths take.
pub const PATHS: &str = "paths.json";

/// The record of what is done on them.
pub const COUNTS: &str = "counts.json";

/// The record of disks and networks.
pub const IO: &str = "io.json";

/// What was measured on the two hypervisors, and with what; `T` is what is known of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<T> {
    /// QEMU's version.
    pub qemu: String,
    /// The CPU model.
    pub cpu: String,
    /// The compiler of Xenolith: another one makes other instructions.
    pub rustc: String,
    /// What Xen says about itself.
    pub about_xen: Vec<String>,
    /// Xen's paths by name.
    pub xen: BTreeMap<String, T>,
    /// Xenolith's.
    pub xenolith: BTreeMap<String, T>,
}

/// Where a record stands in the repository.
pub fn kept(paths: &Paths, name: &str) -> PathBuf {
    paths.root().join("tests/bench").join(name)
}

impl<T: Serialize + DeserializeOwned> Record<T> {
    /// Reads a record.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of figures", file.display()))
    }

    /// Writes the record as JSON that a person can read.
    pub fn write(&self, file: &Path) -> Result<()> {
        command::make_parent(file)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn what_is_written_is_read_again() -> anyhow::Result<()> {
        let text = r#"{"qemu": "7.2", "cpu": "max", "rustc": "1", "about_xen": ["a"], "xen": {},
            "xenolith": {"grant_copy_byte": 0.0806}}"#;
        let record: Record<f64> = serde_json::from_str(text)?;
        assert_eq!(serde_json::from_str::<Record<f64>>(&serde_json::to_string(&record)?)?, record);
        assert_eq!(record.xenolith.get("grant_copy_byte"), Some(&0.0806));
        Ok(())
    }

    #[test]
    fn a_record_with_a_figure_that_is_no_number_is_refused() {
        let text = r#"{"qemu": "", "cpu": "", "rustc": "", "about_xen": [], "xen": {"yield": "many"}, "xenolith": {}}"#;
        assert!(serde_json::from_str::<Record<f64>>(text).is_err());
    }
}
