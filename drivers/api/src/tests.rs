//! Views of a disk, byte access, windows on memory and the waiting line.
#![allow(unsafe_code, reason = "a window is made over memory of the test")]

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use core::ptr::NonNull;
use core::task::{Context, Poll, Waker};

use embassy_futures::block_on;
use proptest::prelude::*;

use super::*;
use crate::sys::Window;

/// A disk whose bus is the offsets of a vector.
struct Ram {
    memory: Rc<RefCell<Vec<u8>>>,
    disk: RefCell<Vec<u8>>,
    requests: Cell<usize>,
}

impl Ram {
    fn new(sectors: usize) -> Self {
        Self {
            memory: Rc::new(RefCell::new(vec![0; 1 << 16])),
            disk: RefCell::new((0..sectors * 512).map(|n| (n ^ n >> 9 ^ n >> 17).to_le_bytes()[0]).collect()),
            requests: Cell::new(0),
        }
    }

    fn pieces(&self, sector: u64, segments: &[Segment]) -> Vec<(usize, usize, usize)> {
        self.requests.set(self.requests.get() + 1);
        let mut at = usize::try_from(sector).unwrap() * 512;
        segments
            .iter()
            .map(|segment| {
                let piece = (at, usize::try_from(segment.bus.raw()).unwrap(), segment.len as usize);
                at += piece.2;
                piece
            })
            .collect()
    }
}

impl Disk for Ram {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            sectors: self.disk.borrow().len() as u64 / 512,
            logical_block: 512,
            physical_block: 512,
            read_only: false,
            flush: true,
            discard: true,
            discard_granularity: 512,
        }
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        for (at, memory, len) in self.pieces(sector, segments) {
            self.memory.borrow_mut()[memory..memory + len].copy_from_slice(&self.disk.borrow()[at..at + len]);
        }
        Ok(())
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        for (at, memory, len) in self.pieces(sector, segments) {
            self.disk.borrow_mut()[at..at + len].copy_from_slice(&self.memory.borrow()[memory..memory + len]);
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let (at, len) = (usize::try_from(sector).unwrap() * 512, usize::try_from(count).unwrap() * 512);
        self.disk.borrow_mut()[at..at + len].fill(0);
        Ok(())
    }
}

fn segment(bus: u64, sectors: u32) -> Segment {
    Segment { bus: BusAddr::new(bus), len: sectors * 512 }
}

fn extent(start: u64, sectors: u64) -> Extent {
    Extent { start, sectors }
}

#[test]
fn a_request_within_one_extent_is_passed_on_whole() {
    let disk = Ram::new(100);
    let view = DiskView::new(&disk, &[extent(10, 20), extent(50, 20)], false).unwrap();
    assert_eq!(view.info().sectors, 40);
    block_on(view.read(20, &[segment(0, 4), segment(8192, 4)])).unwrap();
    assert_eq!(disk.requests.get(), 1);
    assert_eq!(disk.memory.borrow()[..2048], disk.disk.borrow()[50 * 512..][..2048]);
}

#[test]
fn a_view_ends_where_it_ends_although_the_disk_goes_on() {
    let disk = Ram::new(100);
    let mut view = DiskView::new(&disk, &[extent(10, 20)], false).unwrap();
    for (sector, count) in [(20, 1), (19, 2), (u64::MAX, 1), (0, 21)] {
        let part = [segment(0, count)];
        assert_eq!(block_on(view.read(sector, &part)), Err(DiskError::OutOfRange), "{sector}");
        assert_eq!(block_on(view.write(sector, &part)), Err(DiskError::OutOfRange), "{sector}");
        assert_eq!(block_on(view.discard(sector, count.into())), Err(DiskError::OutOfRange), "{sector}");
    }
    view.truncate(19);
    assert_eq!(block_on(view.read(19, &[segment(0, 1)])), Err(DiskError::OutOfRange));
    assert_eq!(disk.requests.get(), 0);
}

#[test]
fn extents_that_are_not_on_the_disk_make_no_view() {
    let disk = Ram::new(100);
    for bad in [extent(99, 2), extent(100, 1), extent(5, 0), extent(u64::MAX, 2)] {
        let result = DiskView::new(&disk, &[extent(0, 5), bad], false);
        assert_eq!(result.err(), Some(ViewError::BeyondDisk(bad)));
    }
}

#[test]
fn a_read_only_view_of_a_writable_disk_refuses_changes() {
    let disk = Ram::new(100);
    let view = DiskView::whole(&disk, true);
    assert!(view.info().read_only);
    assert_eq!(block_on(view.write(0, &[segment(0, 1)])), Err(DiskError::ReadOnly));
    assert_eq!(block_on(view.discard(0, 1)), Err(DiskError::ReadOnly));
    assert_eq!(block_on(view.read(0, &[segment(0, 1)])), Ok(()));
}

proptest! {
    #[test]
    fn a_view_of_extents_is_their_bytes_in_a_row(
        runs in proptest::collection::vec((0u64..90, 1u64..10), 1..8),
        start in 0u64..60,
        sizes in proptest::collection::vec(1u32..5, 1..8),
        discard in 0u64..12,
    ) {
        let disk = Ram::new(100);
        let extents: Vec<Extent> = runs.iter().map(|&(start, sectors)| extent(start, sectors)).collect();
        let flat: Vec<u8> = extents
            .iter()
            .flat_map(|run| {
                let (at, len) = (usize::try_from(run.start * 512).unwrap(), usize::try_from(run.sectors * 512).unwrap());
                disk.disk.borrow()[at..at + len].to_vec()
            })
            .collect();
        let view = DiskView::new(&disk, &extents, false).unwrap();
        let segments: Vec<Segment> = (0u64..).zip(&sizes).map(|(n, &size)| segment(n * 4096, size)).collect();
        let mut at = usize::try_from(start).unwrap() * 512;
        let total = sizes.iter().sum::<u32>() as usize * 512;
        let result = block_on(view.read(start, &segments));
        prop_assert_eq!(result.is_ok(), at + total <= flat.len());
        if result.is_ok() {
            for part in &segments {
                let (memory, len) = (usize::try_from(part.bus.raw()).unwrap(), part.len as usize);
                prop_assert!(disk.memory.borrow()[memory..memory + len] == flat[at..at + len]);
                at += len;
            }
        }
        let fits = start + discard <= view.info().sectors;
        prop_assert_eq!(block_on(view.discard(start, discard)).is_ok(), fits);
    }
}

/// A buffer in the disk's memory.
struct Buffer(Rc<RefCell<Vec<u8>>>, usize);

impl DmaMemory for Buffer {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(0)
    }

    fn len(&self) -> usize {
        self.1
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.borrow()[offset..offset + into.len()]);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }

    fn load_u16(&self, _: usize) -> u16 {
        unreachable!("a bounce buffer is only copied")
    }

    fn store_u16(&self, _: usize, _: u16) {
        unreachable!("a bounce buffer is only copied")
    }

    fn load_u32(&self, _: usize) -> u32 {
        unreachable!("a bounce buffer is only copied")
    }

    fn store_u64(&self, _: usize, _: u64) {
        unreachable!("a bounce buffer is only copied")
    }

    fn full_barrier(&self) {}
}

#[test]
fn bytes_go_through_the_bounce_buffer_in_pieces() {
    let disk = Rc::new(Ram::new(100));
    let io = SectorIo::new(Rc::clone(&disk), Buffer(Rc::clone(&disk.memory), 3 * 512 + 100));
    let mut data = vec![0; 10 * 512];
    block_on(Sectors::read(&io, 7, &mut data)).unwrap();
    assert_eq!(data, disk.disk.borrow()[7 * 512..][..10 * 512]);
    assert_eq!(disk.requests.get(), 4);
    data.reverse();
    block_on(Sectors::write(&io, 50, &data)).unwrap();
    assert_eq!(data, disk.disk.borrow()[50 * 512..][..10 * 512]);
    assert_eq!(block_on(Sectors::read(&io, 0, &mut [0; 100])), Err(DiskError::OutOfRange));
}

#[test]
fn a_window_never_reaches_outside_its_memory() {
    let mut memory = vec![0x1122_3344_5566_7788u64; 4];
    let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
    // SAFETY: the middle 16 bytes of a vector that outlives the window and is not touched meanwhile.
    let window = unsafe { Window::new(base.add(8), 16, BusAddr::new(0x1000)) };
    SharedPage::store_u32(&window, 16, 9);
    SharedPage::store_u64(&window, 9, 9);
    SharedPage::store_u64(&window, usize::MAX - 3, 9);
    SharedPage::copy_in(&window, 12, &[0xaa; 20]);
    SharedPage::copy_in(&window, 100, &[0xaa; 20]);
    assert_eq!(SharedPage::load_u32(&window, 16), 0);
    assert_eq!(SharedPage::load_u32(&window, 2), 0);
    assert_eq!(SharedPage::load_u64(&window, 0), 0x1122_3344_5566_7788);
    let mut out = [7; 24];
    SharedPage::copy_out(&window, 3, &mut out);
    assert_eq!(out[..5], [0x55, 0x44, 0x33, 0x22, 0x11]);
    assert_eq!(out[9..13], [0xaa; 4]);
    assert_eq!(out[13..], [0; 11]);
    assert_eq!((memory[0], memory[3]), (0x1122_3344_5566_7788, 0x1122_3344_5566_7788));
}

#[test]
fn long_copies_are_exact_wherever_they_begin_and_end() {
    let mut memory: Vec<u64> = (0..40).map(|n| n * 0x0101_0101_0101_0101 + 7).collect();
    let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_le_bytes()).collect();
    let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).unwrap();
    // SAFETY: a vector that outlives the window and is not touched meanwhile.
    let window = unsafe { Window::new(base, bytes.len(), BusAddr::new(0)) };
    let mut place = vec![0u8; bytes.len() + 8];
    for from in 0..17 {
        for to in 0..9 {
            let count = bytes.len() - from - to;
            let part = &mut place[to..to + count];
            part.fill(0);
            SharedPage::copy_out(&window, from, part);
            assert_eq!(part, &bytes[from..from + count], "out of {from} into {to}");
            let back: Vec<u8> = part.iter().map(|byte| !byte).collect();
            part.copy_from_slice(&back);
            SharedPage::copy_in(&window, from, part);
            let mut seen = vec![0; count];
            SharedPage::copy_out(&window, from, &mut seen);
            assert_eq!(seen, back, "into {from} out of {to}");
            SharedPage::copy_in(&window, 0, &bytes);
        }
    }
}

#[test]
fn the_waiting_line_serves_in_order_and_survives_those_who_leave() {
    let line = WaitQueue::new();
    let tokens = Cell::new(0u32);
    let take = |wanted: u32| {
        let tokens = &tokens;
        move || (tokens.get() >= wanted).then(|| tokens.set(tokens.get() - wanted))
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut large = Box::pin(line.until(take(3)));
    let mut leaver = Box::pin(line.until(take(1)));
    let mut small = pin!(line.until(take(1)));
    assert!(large.as_mut().poll(&mut cx).is_pending());
    assert!(leaver.as_mut().poll(&mut cx).is_pending());
    tokens.set(1);
    assert!(small.as_mut().poll(&mut cx).is_pending(), "nobody overtakes the large one");
    tokens.set(4);
    assert_eq!(large.as_mut().poll(&mut cx), Poll::Ready(()));
    drop(large);
    drop(leaver);
    assert_eq!(small.as_mut().poll(&mut cx), Poll::Ready(()));
    assert_eq!(tokens.get(), 0);
}
