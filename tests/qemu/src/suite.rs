//! Runs the cases and says what passed.

use std::ops::AddAssign;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cases;
use crate::config::{Config, Disk, Module};
use crate::machine::Machine;
use crate::xen::Peer;

/// What the cases boot from; `cargo xtask test` makes it.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The hypervisor.
    pub xenolith: PathBuf,
    /// Where in its file a pCPU waits for a lock, and which function takes that.
    pub lock_waits: Vec<(u64, String)>,
    /// The control domain.
    pub dom0: PathBuf,
    /// The disk with the demo guests and what single cases need besides; no case changes it.
    pub store: PathBuf,
    /// Debian's Xen, when a case wants it.
    pub peer: Option<Peer>,
    /// Hears how far a case is that takes long.
    pub say: fn(&str),
}

impl Lab {
    /// A machine of the usual size; what it writes to its disks is dropped.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.xenolith.clone());
        config.modules.push(Module::Kernel(self.dom0.clone(), String::new()));
        config.disks.push(Disk { serial: "store".to_owned(), file: self.store.clone(), snapshot: true });
        config
    }

    /// Boots the usual machine to Dom0's prompt.
    pub fn boot(&self) -> Result<Machine> {
        Machine::boot(&self.config())
    }

    /// The peer, or an error that says it was not prepared.
    pub fn peer(&self) -> Result<&Peer> {
        self.peer.as_ref().context("Debian's Xen was not prepared")
    }
}

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What must hold, as a sentence in snake case.
    pub name: &'static str,
    /// What it needs that is not always prepared.
    pub needs: Needs,
    /// True for what compares times of the host's clock: it runs when no other case does.
    pub alone: bool,
    /// Fails with the reason.
    pub run: fn(&Lab) -> Result<()>,
}

/// What a case needs besides our own images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Debian's Xen.
    Xen,
    /// The Linux guest `load`, with what puts it under load.
    Load,
}

/// How many passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases whose claim held.
    pub passed: u32,
    /// Cases whose claim did not hold.
    pub failed: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// The cases whose name holds `filter`.
pub fn select(filter: &str) -> Vec<Case> {
    cases::all().into_iter().filter(|case| case.name.contains(filter)).collect()
}

/// The campaigns whose name holds `filter`.
pub fn select_campaigns(filter: &str) -> Vec<Case> {
    cases::soak::all().into_iter().filter(|case| case.name.contains(filter)).collect()
}

/// Runs the cases, as many at once as the host has CPUs, and then those that must be alone, one after the other;
/// `report` gets a line as each ends.
pub fn run(cases: &[Case], lab: &Lab, mut report: impl FnMut(&str)) -> Tally {
    let (alone, together): (Vec<Case>, Vec<Case>) = cases.iter().partition(|case| case.alone);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    for (cases, workers) in [(together, workers), (alone, 1)] {
        let (ended, endings) = mpsc::channel();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let (ended, cases, next) = (ended.clone(), &cases, &next);
                scope.spawn(move || {
                    // Relaxed: the number says which case is whose and nothing else.
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Nobody hears it when the reader of the report is gone.
                        let _ = ended.send(outcome(case, lab));
                    }
                });
            }
            drop(ended);
            for (passed, line) in endings {
                tally.passed += u32::from(passed);
                tally.failed += u32::from(!passed);
                report(&line);
            }
        });
    }
    tally
}

/// Runs one case: whether its claim held, and the line that says so.
fn outcome(case: &Case, lab: &Lab) -> (bool, String) {
    let start = Instant::now();
    let result = (case.run)(lab);
    let seconds = start.elapsed().as_secs_f32();
    match result {
        Ok(()) => (true, format!("{} ok ({seconds:.1} s)", case.name)),
        Err(error) => (false, format!("{} FAILED ({seconds:.1} s)\n{error:#}", case.name)),
    }
}
