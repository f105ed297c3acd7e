//! Follows the paths of the measuring guest instruction by instruction.
//!
//! The guest calls a function that does nothing, its mark, with the name of a path before it makes that once, and with
//! no name after it. Until a debugger has stopped there for the first time and changed the answer, it does not begin.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::debugger::{Debugger, Registers};
use qemu_tests::machine::Machine;

use super::counts::{Count, Counts};
use crate::ui;

/// The word on the guest's command line that makes it wait for a debugger.
pub const WATCHED: &str = "watched";

/// How the guest says where its mark is.
pub const MARK: &str = "paths: mark 0x";

/// How often it makes each path. The shortest one counts, so that somebody's timer does not.
const TIMES: usize = 3;

/// How many paths it makes: all of the table but Dom0's switch of frames.
const FOLLOWED: usize = 23;

/// Names are shorter.
const LONGEST_NAME: u64 = 64;

/// Steps after which a path is not expected to end any more: a hundred times Xen's longest.
const LONGEST_PATH: usize = 2_000_000;

/// Each instruction at EL2 of each path, in order: its address and its word.
pub type Trace = BTreeMap<String, Vec<(u64, u32)>>;

/// Where QEMU listens for the debugger. A socket's path has at most 108 bytes, which the images' folder may exceed.
pub fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("xenolith-bench-{}.sock", std::process::id()))
}

/// Follows all paths of the guest that `machine` has started, until its last.
pub fn follow(machine: &mut Machine, socket: &Path, within: Duration) -> Result<Trace> {
    machine.expect(MARK, within)?;
    let line = machine.expect("\n", within)?;
    let mark = u64::from_str_radix(line.trim(), 16).with_context(|| format!("no address of a mark: {line}"))?;
    let mut debugger = Debugger::attach(socket)?;
    let mut follower = Follower { debugger: &mut debugger, mark, words: HashMap::new() };
    follower.begin()?;
    let mut trace = Trace::new();
    let bar = ui::bar("bench", "following the paths", (TIMES * FOLLOWED) as u64);
    for _ in 0..TIMES * FOLLOWED {
        let (name, path) = follower.next()?;
        bar.inc(1);
        match trace.get(&name) {
            Some(shorter) if shorter.len() <= path.len() => {}
            _ => drop(trace.insert(name, path)),
        }
    }
    bar.finish_and_clear();
    debugger.detach()?;
    Ok(trace)
}

/// The counts of a trace.
pub fn counts(trace: &Trace) -> Counts {
    let count = |path: &Vec<(u64, u32)>| {
        let mut count = Count::default();
        path.iter().for_each(|(_, word)| count += *word);
        count
    };
    trace.iter().map(|(name, path)| (name.clone(), count(path))).collect()
}

struct Follower<'a> {
    debugger: &'a mut Debugger,
    mark: u64,
    /// The hypervisor's code as it was read. It does not change.
    words: HashMap<u64, u32>,
}

impl Follower<'_> {
    /// Answers the guest that waits at its mark.
    fn begin(&mut self) -> Result<()> {
        self.at_mark()?;
        self.debugger.set_x0(1)
    }

    /// Lets the machine run to the next call of the mark by the measuring guest or its partner, which is the same program.
    /// Others may have code at the same address.
    fn at_mark(&mut self) -> Result<Registers> {
        loop {
            let registers = self.debugger.run_to(self.mark)?;
            if registers.level() == 1 && registers.x(1) <= LONGEST_NAME {
                return Ok(registers);
            }
        }
    }

    /// Follows the next path, and gives its name.
    fn next(&mut self) -> Result<(String, Vec<(u64, u32)>)> {
        // An interrupt may come at the mark, and then it comes there again.
        let start = loop {
            let registers = self.at_mark()?;
            if registers.x(1) > 0 {
                break registers;
            }
        };
        let name = String::from_utf8(self.debugger.memory(start.x(0), start.x(1))?)?;
        let mut path = Vec::new();
        for _ in 0..LONGEST_PATH {
            let registers = self.debugger.step()?;
            let pc = registers.pc();
            match registers.level() {
                1 if pc == self.mark && registers.x(1) == 0 => return Ok((name, path)),
                2 => path.push((pc, self.word(pc)?)),
                _ => {}
            }
        }
        bail!("the path {name} does not end")
    }

    fn word(&mut self, pc: u64) -> Result<u32> {
        if let Some(word) = self.words.get(&pc) {
            return Ok(*word);
        }
        let bytes = self.debugger.memory(pc, 4)?;
        let word = u32::from_le_bytes(bytes.try_into().ok().context("QEMU gives half an instruction")?);
        self.words.insert(pc, word);
        Ok(word)
    }
}
