//! The figures that are kept in the repository: Xen's, so that it need not run each time, and Xenolith's, which may
//! not grow.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::table::Figures;
use crate::command;
use crate::paths::Paths;

/// What was measured on the two hypervisors, and with what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// QEMU's version.
    pub qemu: String,
    /// The CPU model.
    pub cpu: String,
    /// The compiler of Xenolith: another one makes other instructions.
    pub rustc: String,
    /// What Xen says about itself.
    pub about_xen: Vec<String>,
    /// Xen's figures.
    pub xen: Figures,
    /// Xenolith's figures.
    pub xenolith: Figures,
}

/// Where the record stands in the repository.
pub fn kept(paths: &Paths) -> PathBuf {
    paths.root().join("tests/bench/paths.json")
}

impl Record {
    /// Reads a record.
    pub fn read(file: &std::path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))?;
        Self::from_json(&value).with_context(|| format!("{} is no record of figures", file.display()))
    }

    /// Writes the record as JSON that a person can read.
    pub fn write(&self, file: &std::path::Path) -> Result<()> {
        command::make_parent(file)?;
        let text = serde_json::to_string_pretty(&self.to_json())? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn to_json(&self) -> Value {
        json!({
            "qemu": self.qemu,
            "cpu": self.cpu,
            "rustc": self.rustc,
            "about_xen": self.about_xen,
            "xen": self.xen,
            "xenolith": self.xenolith,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let figures = |key: &str| {
            let pairs = value[key].as_object()?.iter();
            pairs.map(|(name, figure)| Some((name.clone(), figure.as_f64()?))).collect::<Option<Figures>>()
        };
        let lines = value["about_xen"].as_array()?.iter();
        Some(Self {
            qemu: text("qemu")?,
            cpu: text("cpu")?,
            rustc: text("rustc")?,
            about_xen: lines.map(|line| line.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            xen: figures("xen")?,
            xenolith: figures("xenolith")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = Record { cpu: "cortex-a72".to_owned(), about_xen: vec!["a".to_owned()], ..Record::default() };
        record.xenolith.insert("grant_copy_byte".to_owned(), 0.0806);
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
    }

    #[test]
    fn a_record_with_a_figure_that_is_no_number_is_refused() {
        let mut json = Record::default().to_json();
        json["xen"]["yield"] = "many".into();
        assert_eq!(Record::from_json(&json), None);
    }
}
