//! `xl trace`: the hypervisor's trace rings, followed by a task that writes what is in them to a file of `/store`.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::sync::atomic::{Ordering, fence};

use dom0_core::trace::Cursor;
use driver_api::DmaMemory;
use driver_api::sys::Window;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use fat32::FatError;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use hypercall_abi::trace::{ChunkHeader, ChunkKind, FileHeader, MAGIC, MAX_PAGES, PER_PAGE, Record, VERSION};
use pv_guest_lib::control;
use zerocopy::IntoBytes;

use crate::disks::FileError;
use crate::hal::device_memory;
use crate::sys;
use crate::toolstack::Toolstack;

/// How long the task rests between two looks at the rings.
const REST: Duration = Duration::from_millis(10);
/// Records in one chunk of the file at the most.
const CHUNK: usize = 4096;
/// Bytes of a record.
const BYTES: usize = size_of::<Record>();
/// Bytes of a ring.
const RING: usize = PAGE_SIZE * MAX_PAGES;

/// Why there is no trace, or no more of it.
#[derive(Debug)]
pub enum TraceError {
    /// One is being made already.
    Busy,
    /// None is being made.
    Idle,
    /// Dom0 has no memory for the rings.
    NoMemory,
    /// The file cannot be written.
    File(String, FileError),
    /// The file has something else in it.
    Foreign(String),
    /// The file has become as large as the file system allows.
    Full(String),
    /// The hypervisor refuses.
    Hypervisor(XenError),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceError::Busy => f.write_str("a trace is being made already; 'xl trace stop' ends it"),
            TraceError::Idle => f.write_str("no trace is being made"),
            TraceError::NoMemory => f.write_str("Dom0 has no memory for the rings"),
            TraceError::File(file, error) => write!(f, "{file}: {error}"),
            TraceError::Foreign(file) => write!(f, "{file}: the file is no trace, and is left as it is"),
            TraceError::Full(file) => write!(f, "{file}: the file has no room for more"),
            TraceError::Hypervisor(error) => write!(f, "the hypervisor answers {error}"),
        }
    }
}

impl From<XenError> for TraceError {
    fn from(error: XenError) -> Self {
        TraceError::Hypervisor(error)
    }
}

/// What has become of a trace so far.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The file.
    pub file: String,
    /// Its bytes.
    pub bytes: u32,
    /// Records in it.
    pub records: u64,
    /// Records that were overwritten before they could be read.
    pub lost: u64,
}

/// The one trace that can be made at a time.
pub struct Tracing {
    toolstack: Rc<Toolstack>,
    /// The rings' memory by pCPU, which stays for the next trace.
    rings: RefCell<Vec<Rc<Window>>>,
    progress: RefCell<Option<Progress>>,
    stopping: Cell<bool>,
    over: Signal<NoopRawMutex, Result<(), TraceError>>,
}

impl Tracing {
    /// No trace yet, of the domains that `toolstack` knows.
    pub fn new(toolstack: Rc<Toolstack>) -> Rc<Self> {
        Rc::new(Tracing {
            toolstack,
            rings: RefCell::default(),
            progress: RefCell::default(),
            stopping: Cell::new(false),
            over: Signal::new(),
        })
    }

    /// How far the trace is that is being made.
    pub fn progress(&self) -> Option<Progress> {
        self.progress.borrow().clone()
    }

    fn memory(&self, pcpus: u32) -> Result<Vec<Rc<Window>>, TraceError> {
        let mut rings = self.rings.borrow_mut();
        while rings.len() < pcpus as usize {
            rings.push(Rc::new(device_memory(RING).ok_or(TraceError::NoMemory)?));
        }
        Ok(rings.clone())
    }

    /// Makes `file` an empty one, if nothing is lost by that but a trace.
    async fn empty(&self, file: &str) -> Result<(), TraceError> {
        let failed = |error| TraceError::File(file.into(), error);
        let disks = &self.toolstack.disks;
        match disks.open_file(file).await {
            Ok(old) => {
                let mut start = [0; MAGIC.len()];
                let read = old.read_at(0, &mut start).await.map_err(failed)?;
                if read != 0 && start != MAGIC {
                    return Err(TraceError::Foreign(file.into()));
                }
            }
            Err(FileError::Fat(FatError::NotFound)) => {}
            Err(error) => return Err(failed(error)),
        }
        disks.empty_file(file).await.map_err(failed)
    }

    /// Starts a trace, which goes to `file` in `/store`; an older trace there is gone.
    pub async fn start(self: &Rc<Self>, file: &str) -> Result<(), TraceError> {
        if self.progress.borrow().is_some() {
            return Err(TraceError::Busy);
        }
        let platform = control::platform_info()?;
        let rings = self.memory(platform.pcpus)?;
        let mut trace = Writer {
            tracing: Rc::clone(self),
            progress: Progress { file: file.into(), ..Progress::default() },
            followed: rings.into_iter().map(|ring| (ring, Cursor::new((MAX_PAGES as u64 - 1) * PER_PAGE))).collect(),
            names: BTreeMap::new(),
        };
        self.empty(file).await?;
        let pcpus = platform.pcpus;
        let header = FileHeader { magic: MAGIC, version: VERSION, pcpus, counter_hz: platform.counter_hz, pad: 0 };
        trace.append(header.as_bytes()).await?;
        for (pcpu, (ring, _)) in (0..).zip(&trace.followed) {
            sys::trace_ring(pcpu, Some(ring), MAX_PAGES as u64).inspect_err(|_| _ = end_rings(pcpus))?;
        }
        self.stopping.set(false);
        self.over.reset();
        *self.progress.borrow_mut() = Some(trace.progress.clone());
        self.toolstack.tasks.spawn(trace.run());
        Ok(())
    }

    /// Ends the trace, and says what it came to.
    pub async fn stop(&self) -> Result<Progress, TraceError> {
        if self.progress.borrow().is_none() || self.stopping.replace(true) {
            return Err(TraceError::Idle);
        }
        let outcome = self.over.wait().await;
        let progress = self.progress.take().unwrap_or_default();
        outcome.map(|()| progress)
    }
}

fn end_rings(pcpus: u32) -> Result<(), XenError> {
    (0..pcpus).try_for_each(|pcpu| sys::trace_ring(pcpu, None, 0))
}

/// The task that follows the rings.
struct Writer {
    tracing: Rc<Tracing>,
    progress: Progress,
    followed: Vec<(Rc<Window>, Cursor)>,
    /// The names that the file has.
    names: BTreeMap<DomId, String>,
}

impl Writer {
    async fn run(mut self) {
        let pcpus = u32::try_from(self.followed.len()).unwrap_or(0);
        let outcome = self.follow(pcpus).await;
        // After a failure the rings still write.
        let ended = end_rings(pcpus).map_err(TraceError::from);
        self.tracing.over.signal(outcome.and(ended));
    }

    async fn follow(&mut self, pcpus: u32) -> Result<(), TraceError> {
        while !self.tracing.stopping.get() {
            self.drain(BYTES * CHUNK).await?;
            Timer::after(REST).await;
        }
        end_rings(pcpus)?;
        self.drain(0).await?;
        self.tracing.toolstack.disks.sync_files().await.map_err(|error| self.failed(error))
    }

    /// Writes what is new in the rings, and new names. Leaves a ring after a chunk of less than `least` bytes: what is written
    /// while it is traced makes records itself, so that there would always be some more.
    async fn drain(&mut self, least: usize) -> Result<(), TraceError> {
        for (id, name) in self.new_names() {
            let bytes = u32::try_from(name.len()).unwrap_or(0);
            let mut chunk =
                Vec::from(ChunkHeader { kind: ChunkKind::Name.raw(), id: id.0, bytes, position: 0 }.as_bytes());
            chunk.extend_from_slice(name.as_bytes());
            self.append(&chunk).await?;
            self.names.insert(id, name);
        }
        for pcpu in 0..self.followed.len() {
            while let Some(chunk) = self.followed.get_mut(pcpu).and_then(|(ring, cursor)| read(pcpu, ring, cursor)) {
                self.append(&chunk).await?;
                if chunk.len() < least {
                    break;
                }
            }
        }
        let sum = |of: fn(&Cursor) -> u64| self.followed.iter().map(|(_, cursor)| of(cursor)).sum();
        (self.progress.records, self.progress.lost) = (sum(Cursor::passed), sum(Cursor::lost));
        *self.tracing.progress.borrow_mut() = Some(self.progress.clone());
        Ok(())
    }

    fn new_names(&self) -> Vec<(DomId, String)> {
        let register = self.tracing.toolstack.register.borrow();
        let all = register.iter().filter_map(|domain| Some((domain.domid?, domain.name.clone())));
        let dom0 = (DomId::DOM0, String::from(dom0_core::domain::DOM0_NAME));
        core::iter::once(dom0).chain(all).filter(|(id, name)| self.names.get(id) != Some(name)).collect()
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let after = u32::try_from(bytes.len()).ok().and_then(|len| self.progress.bytes.checked_add(len));
        let Progress { file, bytes: before, .. } = &self.progress;
        let after = after.ok_or_else(|| TraceError::Full(file.clone()))?;
        let written = self.tracing.toolstack.disks.write_file(file, *before, bytes).await;
        written.map_err(|error| self.failed(error))?;
        self.progress.bytes = after;
        Ok(())
    }

    fn failed(&self, error: FileError) -> TraceError {
        TraceError::File(self.progress.file.clone(), error)
    }
}

/// The next chunk of a ring's records, if there are any.
fn read(pcpu: usize, ring: &Window, cursor: &mut Cursor) -> Option<Vec<u8>> {
    let position = |record: u64| usize::try_from(record).unwrap_or(0) * BYTES;
    let count = || {
        // What is read of the ring stays between the two counts.
        fence(Ordering::SeqCst);
        let mut count = [0; 8];
        DmaMemory::copy_out(ring, 0, &mut count);
        fence(Ordering::SeqCst);
        u64::from_le_bytes(count)
    };
    loop {
        let wanted = cursor.wanted(count(), CHUNK as u64);
        if wanted.is_empty() {
            return None;
        }
        let mut records = alloc::vec![0; position(wanted.end - wanted.start)];
        DmaMemory::copy_out(ring, PAGE_SIZE + position(cursor.slot(wanted.start)), &mut records);
        let whole = cursor.read(wanted.clone(), count());
        let Some(records) = records.get(position(whole.start - wanted.start)..).filter(|records| !records.is_empty())
        else {
            continue;
        };
        let header = ChunkHeader {
            kind: ChunkKind::Records.raw(),
            id: u16::try_from(pcpu).unwrap_or(u16::MAX),
            bytes: u32::try_from(records.len()).unwrap_or(0),
            position: whole.start,
        };
        return Some([header.as_bytes(), records].concat());
    }
}
