//! Which crate may depend on which: the arrows of the design, held against what cargo says.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command;
use crate::paths::Paths;
use crate::setup;

/// The traits in `drivers/api` are what drivers are behind, so each may name them, but no driver another.
///
/// A folder, and the folders whose crates those in it may depend on. The first that fits a crate decides.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hypercall-abi", &[]),
    ("kernel/core", &["hypercall-abi"]),
    ("kernel/fdt", &["kernel/core"]),
    ("kernel", &["kernel/core", "kernel/fdt", "kernel/hw", "hypercall-abi"]),
    ("pv-guest-lib", &["pv-guest-lib", "hypercall-abi"]),
    ("drivers/api", &["hypercall-abi"]),
    ("drivers", &["drivers/api", "hypercall-abi"]),
    ("dom0", &["dom0", "drivers", "pv-guest-lib", "hypercall-abi"]),
    // It measures the switch itself.
    ("tests/guests/frames", &["drivers", "pv-guest-lib"]),
    ("tests/guests", &["pv-guest-lib", "hypercall-abi"]),
    ("tests/fuzz", &["tests/fuzz", "dom0", "drivers", "hypercall-abi"]),
    ("tests", &["tests", "dom0", "pv-guest-lib", "hypercall-abi"]),
    ("tools", &["tools", "tests", "dom0", "pv-guest-lib", "hypercall-abi"]),
];

/// Asks cargo for the workspace's crates and checks each dependency between them.
pub fn check(paths: &Paths) -> Result<()> {
    let mut cargo = setup::cargo("metadata");
    cargo.args(["--format-version", "1", "--no-deps"]).current_dir(paths.root());
    let metadata: Value = serde_json::from_str(&command::output(&mut cargo)?)?;
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let from = folder(paths.root(), manifest)?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Only the workspace's own crates have a path.
            if let Some(path) = dependency["path"].as_str() {
                edges.push((from.clone(), folder(paths.root(), &format!("{path}/Cargo.toml"))?));
            }
        }
    }
    ensure!(!edges.is_empty(), "cargo metadata names no dependency between our crates");
    let wrong = wrong(&edges);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// The edges that no rule allows, as lines for a person.
fn wrong(edges: &[(String, String)]) -> Vec<String> {
    let is_in = |path: &str, folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    let allowed = |from: &str, to: &str| {
        let rule = ALLOWED.iter().find(|(folder, _)| is_in(from, folder));
        rule.is_some_and(|(_, may)| may.iter().any(|folder| is_in(to, folder)))
    };
    let bad = edges.iter().filter(|(from, to)| !allowed(from, to));
    bad.map(|(from, to)| format!("{from} must not depend on {to}")).collect()
}

/// The folder of a manifest, relative to the workspace.
fn folder(root: &Path, manifest: &str) -> Result<String> {
    let folder = Path::new(manifest).parent().and_then(|folder| folder.strip_prefix(root).ok());
    let folder = folder.with_context(|| format!("{manifest} is outside of the workspace"))?;
    Ok(folder.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::wrong;

    fn verdict(from: &str, to: &str) -> bool {
        wrong(&[(from.to_owned(), to.to_owned())]).is_empty()
    }

    #[test]
    fn the_kernel_knows_neither_drivers_nor_dom0_nor_the_guest_library() {
        assert!(verdict("kernel/core", "hypercall-abi"));
        assert!(verdict("kernel", "kernel/hw") && verdict("kernel/hw", "kernel/fdt"));
        for to in ["drivers/pl011", "dom0", "pv-guest-lib"] {
            assert!(!verdict("kernel", to) && !verdict("kernel/hw", to) && !verdict("kernel/core", to));
        }
    }

    #[test]
    fn drivers_do_not_know_each_other_and_core_does_not_know_hw() {
        assert!(!verdict("drivers/blkback", "drivers/virtio-blk"));
        assert!(!verdict("kernel/core", "kernel/hw") && !verdict("kernel/core", "kernel/fdt"));
        assert!(!verdict("kernel/fdt", "kernel/hw"));
        assert!(verdict("dom0", "drivers/blkback"));
    }

    #[test]
    fn a_crate_in_a_folder_without_a_rule_may_depend_on_nothing() {
        assert!(!verdict("elsewhere", "hypercall-abi"));
    }
}
