//! Traces that `xl trace` has written: read, checked, and turned into what people look at.
//!
//! Records of one pCPU are written as exits end, and are put in the order of their times here. What the format means is
//! said in `hypercall_abi::trace`.

mod chrome;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use hypercall_abi::trace::{ChunkHeader, ChunkKind, ExitKind, FileHeader, Kind, MAGIC, Record, VERSION};
use hypercall_abi::vcpu::Runstate;
use zerocopy::FromBytes;

pub use chrome::chrome;
pub use summary::{Span, Summary, VcpuTimes, summarise};

/// More pCPUs than a machine of ours can have, each of which has a track in the picture.
const MOST_PCPUS: u32 = 1024;

/// A vCPU: its domain, and its number there.
pub type Who = (u16, u32);

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The vCPU goes from one state to another, and runs or waits on this pCPU.
    State {
        /// The state before.
        from: Runstate,
        /// The state from now on.
        to: Runstate,
        /// Where it runs or waits.
        pcpu: u64,
    },
    /// An exit of this kind, with `ESR_EL2`, and how many ticks it took.
    Exit {
        /// What made it exit.
        kind: ExitKind,
        /// The syndrome.
        esr: u64,
        /// Ticks.
        span: u64,
    },
    /// A hypercall, with its first argument, and how many ticks it took.
    Hypercall {
        /// Which.
        number: u32,
        /// The low half of x0.
        command: u32,
        /// Ticks.
        span: u64,
    },
    /// An interrupt that waits for the vCPU as it goes on.
    Injection(u32),
}

/// A record, and the pCPU that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Ticks of the system counter.
    pub time: u64,
    /// Who wrote it.
    pub pcpu: u16,
    /// Whom it is about.
    pub who: Who,
    /// What it tells.
    pub event: Event,
}

/// A whole trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Ticks per second.
    pub hz: u64,
    /// pCPUs of the machine.
    pub pcpus: u32,
    /// Records that are missing, by pCPU.
    pub lost: BTreeMap<u16, u64>,
    /// Names of domains.
    pub names: BTreeMap<u16, String>,
    /// All records in the order of their times.
    pub entries: Vec<Entry>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// It is no trace, of another version, or is cut off.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let (header, mut rest) = FileHeader::read_from_prefix(bytes).ok().context("the file is too short")?;
        ensure!(header.magic == MAGIC, "the file is no trace");
        ensure!(header.version == VERSION, "the trace has version {}, not {VERSION}", header.version);
        ensure!(header.pcpus <= MOST_PCPUS, "the trace is of {} pCPUs, which no machine has", header.pcpus);
        let mut trace = Trace {
            hz: u64::from(header.counter_hz.max(1)),
            pcpus: header.pcpus,
            lost: BTreeMap::new(),
            names: BTreeMap::new(),
            entries: Vec::new(),
        };
        let mut next = BTreeMap::<u16, u64>::new();
        while !rest.is_empty() {
            let (chunk, behind) = ChunkHeader::read_from_prefix(rest).ok().context("the trace is cut off")?;
            let (body, behind) = behind.split_at_checked(chunk.bytes as usize).context("the trace is cut off")?;
            rest = behind;
            match ChunkKind::from_raw(chunk.kind) {
                Some(ChunkKind::Name) => {
                    trace.names.insert(chunk.id, String::from_utf8_lossy(body).into_owned());
                }
                Some(ChunkKind::Records) => {
                    let expected = next.entry(chunk.id).or_default();
                    let gap = chunk.position.checked_sub(*expected).context("records come twice")?;
                    *trace.lost.entry(chunk.id).or_default() += gap;
                    let (records, odd) = body.as_chunks::<{ size_of::<Record>() }>();
                    ensure!(odd.is_empty(), "a record is cut off");
                    *expected = chunk.position.saturating_add(records.len() as u64);
                    for record in records {
                        trace.entries.push(entry(chunk.id, &zerocopy::transmute!(*record))?);
                    }
                }
                None => bail!("the trace has a chunk of kind {}, which is unknown", chunk.kind),
            }
        }
        // Stable, so that what has one time stays in the order in which it was written.
        trace.entries.sort_by_key(|entry| entry.time);
        Ok(trace)
    }

    /// A domain's name, or its id.
    pub fn name(&self, domid: u16) -> String {
        self.names.get(&domid).cloned().unwrap_or_else(|| format!("d{domid}"))
    }

    /// Microseconds from the first record to a time.
    pub fn micros(&self, time: u64) -> f64 {
        let start = self.entries.first().map_or(0, |entry| entry.time);
        self.duration_us(time.saturating_sub(start))
    }

    /// Ticks as microseconds.
    pub fn duration_us(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e6 / self.hz as f64
    }

    /// The vCPUs on each pCPU one after the other: checks that none comes before the one that was there has left, and
    /// that each leaves whence it came. Returns how many switches there were.
    ///
    /// # Errors
    /// Names the first record that does not follow from those before it.
    pub fn check_switches(&self) -> Result<usize> {
        ensure!(self.lost.values().all(|lost| *lost == 0), "records were lost: {:?}", self.lost);
        let mut on = BTreeMap::<u16, Option<Who>>::new();
        let mut switches = 0;
        for entry in &self.entries {
            let Event::State { from, to, .. } = entry.event else { continue };
            if from == Runstate::Running {
                let before = on.insert(entry.pcpu, None);
                ensure!(
                    before.is_none_or(|before| before == Some(entry.who)),
                    "{entry:?} leaves a pCPU that {before:?} is on"
                );
            }
            if to == Runstate::Running {
                let before = on.insert(entry.pcpu, Some(entry.who));
                ensure!(before.is_none_or(|before| before.is_none()), "{entry:?} comes while {before:?} is there");
                switches += 1;
            }
        }
        Ok(switches)
    }
}

fn entry(pcpu: u16, record: &Record) -> Result<Entry> {
    let low = |value: u64| u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0);
    let state = |bits: u8| Runstate::from_raw(u32::from(bits & 0xF)).context("a state is unknown");
    let event = match Kind::from_raw(record.kind).with_context(|| format!("a record has kind {}", record.kind))? {
        Kind::State => Event::State { from: state(record.detail >> 4)?, to: state(record.detail)?, pcpu: record.value },
        Kind::Exit => {
            let kind = ExitKind::from_raw(record.detail).context("an exit is of unknown kind")?;
            Event::Exit { kind, esr: record.value, span: record.span }
        }
        Kind::Hypercall => {
            Event::Hypercall { number: low(record.value), command: low(record.value >> 32), span: record.span }
        }
        Kind::Injection => Event::Injection(low(record.value)),
    };
    Ok(Entry { time: record.time, pcpu, who: (record.domid.0, record.vcpu.0), event })
}
