//! Pairs of domains that have nothing to do with each other: whether they are in each other's way.
//!
//! The two domains of a pair (`tests/guests/paths`) send each other an event in turn and sleep until the answer comes. Where pCPUs
//! run at once a debugger looks whether one ever waits for a lock, since the host's clock says little of how long something takes.
//! How much many pairs get done beside what one does alone is counted where the clock counts instructions: there QEMU lets
//! pCPUs run in turn, from one write of a timer to the next, and a second of theirs together is one of the clock.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::config::Config;
use crate::debugger::Debugger;
use crate::machine::Machine;
use crate::shares::{Begin, begin_after_making};

/// The guest's configuration, which must be in the store as `pair.cfg`, with the image as `paths` beside what [`crate::shares`]
/// needs.
pub const CONFIG: &str = "name = \"pair\"\nkernel = \"/store/paths\"\nmemory = 4\nvcpus = 1\n";

/// The pCPUs, and the pairs when there are many: on which of those each has its two domains.
const PCPUS: u32 = 4;
const ON_THEIR_OWN: [(u8, u8); PCPUS as usize] = [(0, 0), (1, 1), (2, 2), (3, 3)];

/// How long trips are counted, in milliseconds of the machine's clock, and for how long of that the debugger looks when all have
/// begun.
const WINDOW: u64 = 2000;
const BEGUN: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1500);

/// How often an instruction's nanosecond is doubled: a window has enough of them for figures that repeat to a part in a hundred.
const SHIFT: u32 = 3;

/// The word that makes a pair do all that domains do for themselves after each trip.
const ALL: &str = "all";

/// Time for a step on a busy host.
const LONG: Duration = Duration::from_secs(120);

/// Where QEMU loads the hypervisor.
const LOADED_AT: u64 = 0x4020_0000;

/// Which function waited for a lock on some pCPU.
#[derive(Clone, Debug)]
pub struct Meetings {
    /// While the two domains of a pair ran at once, which do meet.
    pub one_pair: Option<String>,
    /// While there were many pairs, each on a pCPU of its own.
    pub many_pairs: Option<String>,
}

/// Lets pairs do all that domains do for themselves. `waits` is where a pCPU waits for a lock: offsets in the hypervisor's file, and
/// which function takes it.
pub fn meetings(config: &Config, waits: &[(u64, String)]) -> Result<Meetings> {
    let mut config = config.clone();
    config.debugger = Some(std::env::temp_dir().join(format!("xenolith-pairs-{}.sock", std::process::id())));
    let mut machine = boot(&mut config)?;
    let mut watch = |pcpus: &[(u8, u8)]| -> Result<Option<String>> {
        let pairs = Pairs::start(&mut machine, pcpus, ALL)?;
        let function = pairs.watch(&config, waits)?;
        pairs.trips(&mut machine)?;
        Ok(function)
    };
    Ok(Meetings { one_pair: watch(&[(0, 1)])?, many_pairs: watch(&ON_THEIR_OWN)? })
}

/// How many times the round trips of one pair alone all pairs make, on as many pCPUs that run at once.
pub fn scale(config: &Config) -> Result<f64> {
    let mut config = config.clone();
    (config.icount, config.icount_shift) = (true, SHIFT);
    let mut machine = boot(&mut config)?;
    let mut trips = |pcpus: &[(u8, u8)]| -> Result<f64> {
        Ok(Pairs::start(&mut machine, pcpus, "")?.trips(&mut machine)?.iter().sum())
    };
    // Not on Dom0's pCPU.
    let alone = trips(&ON_THEIR_OWN[1..2])?;
    Ok(f64::from(PCPUS) * trips(&ON_THEIR_OWN)? / alone)
}

/// Boots a machine with Dom0 on the first pCPU.
fn boot(config: &mut Config) -> Result<Machine> {
    config.smp = PCPUS;
    let mut machine = Machine::boot(config)?;
    machine.ok("xl vcpu-pin 0 0 0")?;
    Ok(machine)
}

/// Pairs that begin at a time to come, or have begun.
struct Pairs {
    names: Vec<[String; 2]>,
    /// The host's time at which they begin, where its clock is that of the machine.
    begin: Instant,
}

impl Pairs {
    /// Makes pairs, the two domains of each on these pCPUs, and lets them begin.
    fn start(machine: &mut Machine, pcpus: &[(u8, u8)], word: &str) -> Result<Self> {
        let Begin { now, from, domid } = begin_after_making(machine, 2 * pcpus.len())?;
        let begin = Instant::now() + Duration::from_millis(from - now);
        let mut names = Vec::new();
        // Each has to know the other's number, and numbers are given in a row.
        for (n, (partners, own)) in (domid..).step_by(2).zip(pcpus) {
            let pair = [format!("partner{n}"), format!("bench{n}")];
            let words = |name, pcpu, extra| format!("/store/pair.cfg name={name} cpus={pcpu} \"extra='{extra}'\"");
            machine.ok(&format!("xl create {}", words(&pair[0], partners, format!("partner={}", n + 1))))?;
            let counted = format!("bench={n} window={WINDOW} from={from} {word}");
            machine.ok(&format!("xl create -p {}", words(&pair[1], own, counted)))?;
            ensure!(machine.ok(&format!("xl domid {}", pair[0]))?.trim() == n.to_string(), "another number than {n}");
            names.push(pair);
        }
        for [_, bench] in &names {
            machine.ok(&format!("xl unpause {bench}"))?;
        }
        Ok(Self { names, begin })
    }

    /// Looks while all work: which function waits for a lock, if one does.
    fn watch(&self, config: &Config, waits: &[(u64, String)]) -> Result<Option<String>> {
        std::thread::sleep((self.begin + BEGUN).saturating_duration_since(Instant::now()));
        let mut debugger = Debugger::attach(config.debugger.as_deref().context("no debugger is allowed for")?)?;
        let (first, _) = waits.first().context("nobody waits for a lock anywhere")?;
        let file = std::fs::read(&config.kernel)?;
        let word = file.get(usize::try_from(*first)?..).and_then(|code| code.first_chunk::<4>());
        let found = debugger.physical(LOADED_AT + first, 4)?;
        ensure!(found == word.context("no such code")?, "the hypervisor is not at {LOADED_AT:#x}");
        let addresses: Vec<u64> = waits.iter().map(|(offset, _)| LOADED_AT + offset).collect();
        let stopped = debugger.run_until(&addresses, LOOK)?;
        debugger.detach()?;
        let place = |pc: u64| waits.iter().find(|(offset, _)| LOADED_AT + offset == pc).map(|(_, place)| place.clone());
        Ok(stopped.map(|at| place(at.pc()).unwrap_or_else(|| format!("{:#x}", at.pc()))))
    }

    /// The trips of each, when all have come to their end; then they are gone.
    fn trips(self, machine: &mut Machine) -> Result<Vec<f64>> {
        let mut trips = Vec::new();
        for [_, bench] in &self.names {
            machine.send(&format!("xl console {bench}\r"))?;
            machine.expect("paths: ", LONG)?;
            let said = machine.expect(" trips", LONG)?;
            trips.push(said.trim_end_matches(" trips").parse().with_context(|| format!("no trips: {said}"))?);
            machine.send("\x1d")?;
            machine.prompt(LONG)?;
        }
        ensure!(trips.iter().all(|trips| *trips > 100.0), "a pair hardly worked: {trips:?}");
        for name in self.names.iter().flatten() {
            machine.ok(&format!("xl destroy {name}"))?;
        }
        Ok(trips)
    }
}
