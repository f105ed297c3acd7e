//! `cargo xtask bench gate`: no path through the hypervisor becomes longer unnoticed.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::counts::{Count, Counts};
use super::record::{self, Record};
use super::table::{Figures, figure};
use super::{CPU, watch, xenolith};
use crate::paths::Paths;
use crate::setup;
use crate::ui;

/// How much a figure may grow, as a part of it.
const TOLERANCE: f64 = 0.01;

/// Options of `cargo xtask bench gate`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Writes the figures of now into the record, for a change that is worth what it costs
    #[arg(long)]
    update: bool,
}

/// Builds what is measured, and does what the options say.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    xenolith::build(paths)?;
    if !options.update {
        return check(paths);
    }
    update(paths, record::PATHS, xenolith::measure(paths, CPU)?.complete()?, changes)?;
    update(paths, record::COUNTS, watch::counts(&xenolith::follow(paths, CPU)?), |_, _| "the counts are new".to_owned())
}

/// Writes what was found into a record, and says what has changed.
fn update<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    name: &str,
    found: BTreeMap<String, T>,
    changes: impl FnOnce(&BTreeMap<String, T>, &BTreeMap<String, T>) -> String,
) -> Result<()> {
    let file = record::kept(paths, name);
    let mut record = Record::read(&file)?;
    ui::say("bench", &changes(&record.xenolith, &found));
    (record.qemu, record.rustc, record.xenolith) = (setup::qemu_version()?, setup::rustc_version()?, found);
    record.write(&file)?;
    ui::say("bench", &format!("the record is {}", file.display()));
    Ok(())
}

/// Measures the images as they are built, and fails when a figure is above the record's, or when more is done on a path
/// than before or than Xen does.
pub fn check(paths: &Paths) -> Result<()> {
    let record: Record<f64> = Record::read(&record::kept(paths, record::PATHS))?;
    let counted: Record<Count> = Record::read(&record::kept(paths, record::COUNTS))?;
    let rustc = setup::rustc_version()?;
    if record.rustc != rustc {
        ui::say("bench", &format!("skipped: the record is of {}, this is {rustc}", record.rustc));
        return Ok(());
    }
    let found = xenolith::measure(paths, CPU)?.complete()?;
    ui::say("bench", &changes(&record.xenolith, &found));
    let mut worse = longer(&record.xenolith, &found);
    let counts = watch::counts(&xenolith::follow(paths, CPU)?);
    worse.extend(more(&counted.xenolith, &counts, "before", Count::beside_before));
    worse.extend(more(&counted.xen, &counts, "on Xen", Count::beside_xen));
    if !worse.is_empty() {
        bail!("{}\nif that is worth it: cargo xtask bench gate --update", worse.join("\n"));
    }
    Ok(())
}

/// The paths on which more is done than in the record, as lines for a person; `kinds` are those that are compared.
fn more(
    record: &Counts,
    found: &Counts,
    whose: &str,
    kinds: impl Fn(&Count) -> Vec<(&'static str, u64)>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, was) in record {
        let Some(is) = found.get(name) else {
            lines.push(format!("{name} was not followed"));
            continue;
        };
        let pairs = kinds(was).into_iter().zip(kinds(is));
        let grown = pairs.filter(|((_, was), (_, is))| is > was);
        lines.extend(grown.map(|((kind, was), (_, is))| format!("{name}: {is} {kind}, {was} {whose}")));
    }
    lines
}

/// The figures that are more than the tolerance above the record, or are missing, as lines for a person.
fn longer(record: &Figures, found: &Figures) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, was) in record {
        match found.get(name) {
            Some(is) if *is <= was + was.abs() * TOLERANCE => {}
            Some(is) => lines.push(format!("{name} takes {} instructions, {} before", figure(*is), figure(*was))),
            None => lines.push(format!("{name} was not measured")),
        }
    }
    lines
}

/// What differs from the record, in one line.
fn changes(record: &Figures, found: &Figures) -> String {
    let mut changed = Vec::new();
    for (name, is) in found {
        match record.get(name) {
            Some(was) if was == is => {}
            Some(was) => changed.push(format!("{name} {} -> {}", figure(*was), figure(*is))),
            None => changed.push(format!("{name} {} (new)", figure(*is))),
        }
    }
    if changed.is_empty() { "all figures are those of the record".to_owned() } else { changed.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::{Count, Counts, Figures, changes, longer, more};

    fn figures(pairs: &[(&str, f64)]) -> Figures {
        pairs.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn a_path_may_become_shorter_and_one_part_in_a_hundred_longer() {
        let record = figures(&[("a", 100.0), ("b", 1000.0)]);
        assert_eq!(longer(&record, &figures(&[("a", 101.0), ("b", 10.0)])), Vec::<String>::new());
        assert_eq!(longer(&record, &figures(&[("a", 102.0), ("b", 10.0)])), ["a takes 102 instructions, 100 before"]);
    }

    #[test]
    fn what_costs_nothing_extra_may_not_begin_to_cost() {
        assert_eq!(longer(&figures(&[("in_flight", 0.0)]), &figures(&[("in_flight", 1.0)])).len(), 1);
    }

    #[test]
    fn a_path_that_is_measured_no_more_is_an_error_and_a_new_one_is_none() {
        assert_eq!(longer(&figures(&[("a", 1.0)]), &figures(&[("b", 1.0)])), ["a was not measured"]);
    }

    #[test]
    fn the_changes_name_what_was_and_what_is() {
        assert_eq!(changes(&figures(&[("a", 2.0), ("b", 3.0)]), &figures(&[("a", 1.0), ("b", 3.0)])), "a 2 -> 1");
    }

    #[test]
    fn no_path_may_do_more_than_before_but_other_instructions() {
        let counts = |barriers, instructions| -> Counts {
            [("a".to_owned(), Count { instructions, barriers, ..Count::default() })].into()
        };
        let more = |record, found| more(&record, &found, "before", Count::beside_before);
        assert_eq!(more(counts(2, 10), counts(2, 11)), Vec::<String>::new());
        assert_eq!(more(counts(2, 10), counts(3, 10)), ["a: 3 barriers, 2 before"]);
        assert_eq!(more(counts(2, 10), Counts::new()), ["a was not followed"]);
    }

    #[test]
    fn a_wider_invalidation_of_xens_stands_for_a_narrower_one_and_not_the_other_way_round() {
        let counts = |tlbi_address, tlbi_vmid, tlbi_all| -> Counts {
            [("a".to_owned(), Count { tlbi_address, tlbi_vmid, tlbi_all, ..Count::default() })].into()
        };
        let more = |xen, found| more(&xen, &found, "on Xen", Count::beside_xen);
        assert_eq!(more(counts(0, 1, 1), counts(16, 2, 0)), Vec::<String>::new());
        assert_eq!(more(counts(16, 1, 0), counts(0, 0, 1)), ["a: 1 TLBI all, 0 on Xen"]);
        assert_eq!(more(counts(0, 1, 0), counts(0, 2, 0)), ["a: 2 TLBI VMID or all, 1 on Xen"]);
    }
}
