//! A disk in memory. It touches the guest's pages when a request *completes*, so that a page that is unmapped too early,
//! or mapped read-only for a read, is a panic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use driver_api::{BusAddr, Disk, DiskError, DiskInfo, DiskMemory, Segment};
use embassy_futures::yield_now;

use super::memory::Memory;

/// A disk in memory that takes its time.
pub struct RamDisk {
    memory: Rc<Memory>,
    pub bytes: RefCell<Vec<u8>>,
    pub info: DiskInfo,
    /// Its content is the host's memory, and not in `bytes`.
    pub is_memory: bool,
    /// How long requests take, used round and round.
    pub delays: Vec<u32>,
    turn: Cell<usize>,
    pub running: Cell<u32>,
    pub most: Cell<u32>,
    pub log: RefCell<Vec<String>>,
}

impl RamDisk {
    pub fn new(memory: &Rc<Memory>, sectors: u64) -> Self {
        Self {
            memory: Rc::clone(memory),
            bytes: RefCell::new(vec![0; usize::try_from(sectors).unwrap() * 512]),
            info: DiskInfo {
                sectors,
                logical_block: 512,
                physical_block: 4096,
                read_only: false,
                flush: true,
                discard: true,
                discard_granularity: 512,
            },
            is_memory: false,
            delays: vec![3, 0, 7, 1],
            turn: Cell::new(0),
            running: Cell::new(0),
            most: Cell::new(0),
            log: RefCell::new(Vec::new()),
        }
    }

    async fn work(&self, what: String) {
        let delay = self.delays[self.turn.get() % self.delays.len()];
        self.turn.set(self.turn.get() + 1);
        self.running.set(self.running.get() + 1);
        self.most.set(self.most.get().max(self.running.get()));
        self.log.borrow_mut().push(format!("+{what}"));
        for _ in 0..delay {
            yield_now().await;
        }
        self.running.set(self.running.get() - 1);
        self.log.borrow_mut().push(format!("-{what}"));
    }

    fn range(&self, sector: u64, bytes: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(sector).unwrap() * 512;
        assert!(start + bytes <= self.bytes.borrow().len(), "the back end checks ranges first");
        start..start + bytes
    }
}

/// The last page of the disk is one that the host has no memory for.
impl DiskMemory for RamDisk {
    fn page(&self, index: u64) -> Option<BusAddr> {
        let pages = self.info.sectors / 8;
        assert!(index < pages, "the back end checks ranges first");
        let bytes = usize::try_from(pages * 4096).unwrap();
        self.memory.own.borrow_mut().resize(bytes, 0);
        (index + 1 < pages).then_some(BusAddr::new(index * 4096))
    }
}

impl Disk for RamDisk {
    fn memory(&self) -> Option<&dyn DiskMemory> {
        self.is_memory.then_some(self)
    }

    fn info(&self) -> DiskInfo {
        self.info
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        assert!(!self.is_memory, "whoever knows both sides copies");
        self.work(format!("read {sector}")).await;
        let mut sector = sector;
        for segment in segments {
            let to = self.memory.dma(segment, true);
            let from = self.range(sector, segment.len as usize);
            self.memory.bytes.borrow_mut()[to].copy_from_slice(&self.bytes.borrow()[from]);
            sector += u64::from(segment.len / 512);
        }
        Ok(())
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        assert!(!self.info.read_only && !self.is_memory);
        self.work(format!("write {sector}")).await;
        let mut sector = sector;
        for segment in segments {
            let from = self.memory.dma(segment, false);
            let to = self.range(sector, segment.len as usize);
            self.bytes.borrow_mut()[to].copy_from_slice(&self.memory.bytes.borrow()[from]);
            sector += u64::from(segment.len / 512);
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.work("flush".into()).await;
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.work(format!("discard {sector}")).await;
        let range = self.range(sector, usize::try_from(count).unwrap() * 512);
        self.bytes.borrow_mut()[range].fill(0xdd);
        Ok(())
    }
}
