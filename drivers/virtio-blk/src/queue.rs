//! The split virtqueue (VIRTIO 1.2, 2.7), cut into slots: each request slot owns fixed descriptors and a fixed piece of
//! memory for its header, status and descriptor table.
//!
//! With slots there is no free list of descriptors that a device could confuse, nothing is allocated for a request, and
//! the one number that the device returns, the head of a finished chain, is checked against the slots in use.

use driver_api::{BusAddr, DmaMemory, Segment};

use crate::config::Config;
use crate::regs::QueueAddresses;

/// Most entries of the ring.
const MAX_ENTRIES: usize = 256;
/// Most requests at a time.
pub const MAX_SLOTS: usize = 64;
/// Most data segments of one request.
const MAX_DATA: usize = 126;
const DESCRIPTOR: usize = 16;
const PAGE: usize = 4096;

/// Parts of a slot's memory, as offsets.
const HEADER: usize = 0;
const HEADER_LEN: u32 = 16;
const RANGE: usize = 16;
const RANGE_LEN: u32 = 16;
const STATUS: usize = 32;
const ID: usize = 40;
/// Length of the device's serial number (5.2.6).
pub const ID_LEN: usize = 20;
const TABLE: usize = 64;
const SLOT: usize = TABLE + (MAX_DATA + 2) * DESCRIPTOR;

const fn round_up(value: usize, to: usize) -> usize {
    value.div_ceil(to) * to
}

/// Offset of the available ring.
const fn avail(entries: usize) -> usize {
    entries * DESCRIPTOR
}

/// Offset of the used ring; the legacy layout wants it on a page of its own.
const fn used(entries: usize) -> usize {
    round_up(avail(entries) + 6 + 2 * entries, PAGE)
}

/// Offset of the slots' memory.
const fn slots(entries: usize) -> usize {
    round_up(used(entries) + 6 + 8 * entries, PAGE)
}

/// Bytes of memory that a queue may need.
pub const MEMORY: usize = round_up(slots(MAX_ENTRIES) + MAX_SLOTS * SLOT, PAGE);

const FLAG_NEXT: u64 = 1;
const FLAG_WRITE: u64 = 2;
const FLAG_INDIRECT: u64 = 4;

/// What a request carries besides its header and status.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// Memory that the device reads.
    ToDevice(&'a [Segment]),
    /// Memory that the device writes.
    FromDevice(&'a [Segment]),
    /// A range of sectors, as discards name it.
    Range {
        /// The first sector.
        sector: u64,
        /// How many.
        count: u32,
    },
    /// Room for the serial number.
    Id,
}

/// What the device put into the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The request in this slot is over.
    Slot(u16),
    /// No slot begins with that descriptor, or there are more answers than entries: the device is broken.
    Nonsense,
}

/// One queue in its memory.
#[derive(Debug)]
pub struct Queue<M> {
    memory: M,
    entries: u16,
    /// Ring descriptors of each slot.
    stride: u16,
    slots: u16,
    data_max: usize,
    indirect: bool,
    event_idx: bool,
    /// Our copy of what we published; the device may not change it.
    avail_idx: u16,
    used_idx: u16,
}

impl<M: DmaMemory> Queue<M> {
    /// Lays out a queue of at most `max` entries, or `None` if the memory or the queue is too small.
    pub fn new(memory: M, max: u32, config: &Config) -> Option<Self> {
        let max = usize::try_from(max).ok()?.min(MAX_ENTRIES);
        if max == 0 || memory.len() < MEMORY {
            return None;
        }
        let entries = 1usize << max.ilog2();
        let wanted = usize::try_from(config.seg_max).unwrap_or(MAX_DATA).min(MAX_DATA);
        // Without indirect descriptors a slot owns a chain; about eight requests at a time are a fair split.
        let stride = if config.indirect { 1 } else { (wanted + 2).min((entries / 8).max(3)) };
        let data_max = if config.indirect { wanted } else { stride - 2 };
        let slots = (entries / stride).min(MAX_SLOTS);
        if slots == 0 {
            return None;
        }
        let zero = [0u8; 64];
        for offset in (0..self::slots(entries)).step_by(zero.len()) {
            memory.copy_in(offset, &zero);
        }
        Some(Self {
            memory,
            entries: u16::try_from(entries).ok()?,
            stride: u16::try_from(stride).ok()?,
            slots: u16::try_from(slots).ok()?,
            data_max,
            indirect: config.indirect,
            event_idx: config.event_idx,
            avail_idx: 0,
            used_idx: 0,
        })
    }

    /// Entries of the ring.
    pub fn entries(&self) -> u16 {
        self.entries
    }

    /// Requests that fit at a time.
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// Data segments that fit in one request.
    pub fn data_max(&self) -> usize {
        self.data_max
    }

    /// Where the device finds the queue.
    pub fn addresses(&self) -> QueueAddresses {
        let entries = usize::from(self.entries);
        QueueAddresses {
            descriptors: self.bus(0).raw(),
            driver: self.bus(avail(entries)).raw(),
            device: self.bus(used(entries)).raw(),
        }
    }

    /// Gives the request in `slot`, a free one, to the device. Says whether the device wants to be notified.
    pub fn submit(&mut self, slot: u16, kind: u32, sector: u64, payload: Payload<'_>) -> bool {
        self.write_request(slot, kind, sector, payload);
        let entries = usize::from(self.entries);
        let ring = avail(entries);
        let at = usize::from(self.avail_idx & (self.entries - 1));
        self.memory.store_u16(ring + 4 + 2 * at, slot * self.stride);
        let old = self.avail_idx;
        self.avail_idx = old.wrapping_add(1);
        // A release store: the device sees the chain before it sees the index.
        self.memory.store_u16(ring + 2, self.avail_idx);
        self.memory.full_barrier();
        if self.event_idx {
            let event = self.memory.load_u16(used(entries) + 4 + 8 * entries);
            self.avail_idx.wrapping_sub(event).wrapping_sub(1) < self.avail_idx.wrapping_sub(old)
        } else {
            self.memory.load_u16(used(entries)) & 1 == 0
        }
    }

    /// The next finished request, if there is one. When there is none the next one raises an interrupt.
    pub fn pop(&mut self) -> Option<Finished> {
        if self.device_index() == self.used_idx {
            if !self.event_idx {
                return None;
            }
            let entries = usize::from(self.entries);
            self.memory.store_u16(avail(entries) + 4 + 2 * entries, self.used_idx);
            self.memory.full_barrier();
            if self.device_index() == self.used_idx {
                return None;
            }
        }
        if self.device_index().wrapping_sub(self.used_idx) > self.entries {
            return Some(Finished::Nonsense);
        }
        let at = usize::from(self.used_idx & (self.entries - 1));
        let head = self.memory.load_u32(used(usize::from(self.entries)) + 4 + 8 * at);
        self.used_idx = self.used_idx.wrapping_add(1);
        let slot = head / u32::from(self.stride);
        let exact = slot * u32::from(self.stride) == head;
        match u16::try_from(slot) {
            Ok(slot) if exact && slot < self.slots => Some(Finished::Slot(slot)),
            Ok(_) | Err(_) => Some(Finished::Nonsense),
        }
    }

    /// The status byte of a finished request.
    pub fn status(&self, slot: u16) -> u8 {
        let mut status = [0];
        self.memory.copy_out(self.slot(slot) + STATUS, &mut status);
        let [status] = status;
        status
    }

    /// The serial number that a finished request left.
    pub fn id(&self, slot: u16) -> [u8; ID_LEN] {
        let mut id = [0; ID_LEN];
        self.memory.copy_out(self.slot(slot) + ID, &mut id);
        id
    }

    fn device_index(&self) -> u16 {
        self.memory.load_u16(used(usize::from(self.entries)) + 2)
    }

    fn slot(&self, slot: u16) -> usize {
        slots(usize::from(self.entries)) + usize::from(slot) * SLOT
    }

    fn bus(&self, offset: usize) -> BusAddr {
        self.memory.bus_addr().offset(offset as u64)
    }

    /// Writes header, status and descriptors (5.2.6: header first, status last, each in a descriptor of its own, which
    /// legacy devices need).
    fn write_request(&self, slot: u16, kind: u32, sector: u64, payload: Payload<'_>) {
        let base = self.slot(slot);
        self.memory.store_u64(base + HEADER, kind.into());
        self.memory.store_u64(base + HEADER + 8, sector);
        // A value that no device writes, so that a request it skipped is not taken for a success.
        self.memory.copy_in(base + STATUS, &[0xff]);
        let first = slot * self.stride;
        let mut chain = Chain {
            queue: self,
            table: if self.indirect { base + TABLE } else { usize::from(first) * DESCRIPTOR },
            first: if self.indirect { 0 } else { first },
            used: 0,
        };
        chain.push(self.bus(base + HEADER), HEADER_LEN, 0, true);
        match payload {
            Payload::None => {}
            Payload::ToDevice(segments) => {
                segments.iter().for_each(|segment| chain.push(segment.bus, segment.len, 0, true))
            }
            Payload::FromDevice(segments) => {
                segments.iter().for_each(|segment| chain.push(segment.bus, segment.len, FLAG_WRITE, true))
            }
            Payload::Range { sector, count } => {
                self.memory.store_u64(base + RANGE, sector);
                self.memory.store_u64(base + RANGE + 8, count.into());
                chain.push(self.bus(base + RANGE), RANGE_LEN, 0, true);
            }
            // ID_LEN is 20.
            Payload::Id => chain.push(self.bus(base + ID), 20, FLAG_WRITE, true),
        }
        chain.push(self.bus(base + STATUS), 1, FLAG_WRITE, false);
        let length = u32::from(chain.used) * 16;
        if self.indirect {
            let at = usize::from(first) * DESCRIPTOR;
            self.write_descriptor(at, self.bus(base + TABLE), length, FLAG_INDIRECT, 0);
        }
    }

    fn write_descriptor(&self, at: usize, address: BusAddr, len: u32, flags: u64, next: u16) {
        self.memory.store_u64(at, address.raw());
        self.memory.store_u64(at + 8, u64::from(len) | flags << 32 | u64::from(next) << 48);
    }
}

/// A chain of descriptors being written.
struct Chain<'a, M> {
    queue: &'a Queue<M>,
    /// Offset of the first descriptor.
    table: usize,
    /// Its index in the table that the device is told of.
    first: u16,
    used: u16,
}

impl<M: DmaMemory> Chain<'_, M> {
    fn push(&mut self, address: BusAddr, len: u32, flags: u64, more: bool) {
        let at = self.table + usize::from(self.used) * DESCRIPTOR;
        self.used += 1;
        let (flags, next) = if more { (flags | FLAG_NEXT, self.first + self.used) } else { (flags, 0) };
        self.queue.write_descriptor(at, address, len, flags, next);
    }
}
