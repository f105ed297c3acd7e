//! A virtio block device over an array, behind its registers and its half of the queue's memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use driver_api::{BusAddr, DmaMemory};

use crate::queue::MEMORY;
use crate::regs::Registers;

/// Where the queue's memory is on the bus.
const BASE: u64 = 0x4000_0000;
/// Where memory for data begins.
pub const DATA: u64 = BASE + MEMORY as u64;
const DATA_LEN: usize = 1 << 20;
pub const SECTORS: usize = 4096;

/// What the device offers.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub modern: bool,
    pub indirect: bool,
    pub event_idx: bool,
    pub read_only: bool,
    pub queue: u32,
    pub seg_max: u32,
}

impl Default for Features {
    fn default() -> Self {
        Self { modern: true, indirect: true, event_idx: true, read_only: false, queue: 256, seg_max: 126 }
    }
}

/// A way to break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Says that it has used a descriptor that begins no request.
    UnknownHead(u32),
    /// Answers each request twice.
    Twice,
    /// Moves the used index far ahead.
    JumpAhead,
    /// Answers without writing the status.
    NoStatus,
    /// Asks for a reset.
    NeedsReset,
}

pub struct State {
    features: Features,
    memory: RefCell<Vec<u8>>,
    pub disk: RefCell<Vec<u8>>,
    registers: RefCell<[u32; 64]>,
    queue: Cell<[u64; 3]>,
    size: Cell<u16>,
    seen: Cell<u16>,
    used: Cell<u16>,
    interrupt: Cell<u32>,
    pub notifications: Cell<u32>,
    pub interrupts: Cell<u32>,
    pub requests: RefCell<Vec<u32>>,
    pub fault: Cell<Fault>,
    /// Answers the newest request first.
    pub reverse: Cell<bool>,
}

/// A handle on the device; also its registers.
#[derive(Clone)]
pub struct Device(pub Rc<State>);

/// The queue's memory, as the driver sees it.
pub struct Memory(Rc<State>);

impl Device {
    pub fn new(features: Features) -> Self {
        Self(Rc::new(State {
            features,
            memory: RefCell::new(vec![0xcc; MEMORY + DATA_LEN]),
            disk: RefCell::new((0..SECTORS * 512).map(|n| (n ^ n >> 9 ^ n >> 17).to_le_bytes()[0]).collect()),
            registers: RefCell::new([0; 64]),
            queue: Cell::new([0; 3]),
            size: Cell::new(0),
            seen: Cell::new(0),
            used: Cell::new(0),
            interrupt: Cell::new(0),
            notifications: Cell::new(0),
            interrupts: Cell::new(0),
            requests: RefCell::new(Vec::new()),
            fault: Cell::new(Fault::None),
            reverse: Cell::new(false),
        }))
    }

    pub fn memory(&self) -> Memory {
        Memory(Rc::clone(&self.0))
    }

    pub fn data(&self, offset: usize, len: usize) -> Vec<u8> {
        self.0.memory.borrow()[MEMORY + offset..][..len].to_vec()
    }

    pub fn set_data(&self, offset: usize, bytes: &[u8]) {
        self.0.memory.borrow_mut()[MEMORY + offset..][..bytes.len()].copy_from_slice(bytes);
    }

    /// The disk gets `sectors` more, all zeros, and the driver is told.
    pub fn grow(&self, sectors: usize) {
        let len = self.0.disk.borrow().len() + sectors * 512;
        self.0.disk.borrow_mut().resize(len, 0);
        self.0.interrupt.set(self.0.interrupt.get() | 2);
    }

    pub fn running(&self) -> bool {
        self.0.registers.borrow()[0x70 / 4] & 4 != 0
    }

    fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let at = usize::try_from(address - BASE).unwrap();
        self.0.memory.borrow()[at..at + len].to_vec()
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        let at = usize::try_from(address - BASE).unwrap();
        self.0.memory.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u16_at(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.get(address, 2).try_into().unwrap())
    }

    /// How many requests wait for the device.
    pub fn waiting(&self) -> u16 {
        let [_, avail, _] = self.0.queue.get();
        self.u16_at(avail + 2).wrapping_sub(self.0.seen.get())
    }

    /// Answers everything in the queue.
    pub fn process(&self) {
        let state = &self.0;
        if !self.running() {
            return;
        }
        let (size, [_, avail, _]) = (u64::from(state.size.get()), state.queue.get());
        let mut heads = Vec::new();
        while self.waiting() != 0 {
            let slot = u64::from(state.seen.get()) % size;
            heads.push(self.u16_at(avail + 4 + 2 * slot));
            state.seen.set(state.seen.get().wrapping_add(1));
        }
        if state.features.event_idx {
            let [_, _, used] = state.queue.get();
            self.put(used + 4 + 8 * size, &state.seen.get().to_le_bytes());
        }
        if state.reverse.get() {
            heads.reverse();
        }
        for head in heads {
            self.execute(head);
            match state.fault.get() {
                Fault::None | Fault::NoStatus => self.answer(head.into()),
                Fault::UnknownHead(other) => self.answer(other),
                Fault::Twice => {
                    self.answer(head.into());
                    self.answer(head.into());
                }
                Fault::JumpAhead => {
                    state.used.set(state.used.get().wrapping_add(1000));
                    self.answer(head.into());
                }
                Fault::NeedsReset => {
                    state.registers.borrow_mut()[0x70 / 4] |= 64;
                    state.interrupt.set(2);
                }
            }
        }
    }

    fn answer(&self, head: u32) {
        let state = &self.0;
        let (size, [_, avail, used]) = (u64::from(state.size.get()), state.queue.get());
        let slot = u64::from(state.used.get()) % size;
        self.put(used + 4 + 8 * slot, &head.to_le_bytes());
        let (old, new) = (state.used.get(), state.used.get().wrapping_add(1));
        state.used.set(new);
        self.put(used + 2, &new.to_le_bytes());
        let event = self.u16_at(avail + 4 + 2 * size);
        if !state.features.event_idx || new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            state.interrupt.set(state.interrupt.get() | 1);
            state.interrupts.set(state.interrupts.get() + 1);
        }
    }

    /// A chain as (address, length, device writes).
    fn chain(&self, head: u16) -> Vec<(u64, usize, bool)> {
        let [mut table, ..] = self.0.queue.get();
        let (mut index, mut limit, mut chain) = (u64::from(head), u64::from(self.0.size.get()), Vec::new());
        loop {
            assert!(index < limit, "descriptor {index} is not in the table");
            let raw = self.get(table + index * 16, 16);
            let address = u64::from_le_bytes(raw[..8].try_into().unwrap());
            let len = u32::from_le_bytes(raw[8..12].try_into().unwrap()) as usize;
            let flags = u16::from_le_bytes([raw[12], raw[13]]);
            if flags & 4 != 0 {
                assert!(self.0.features.indirect, "indirect was not negotiated");
                assert!(chain.is_empty() && flags == 4, "an indirect descriptor stands alone");
                (table, index, limit) = (address, 0, len as u64 / 16);
                continue;
            }
            chain.push((address, len, flags & 2 != 0));
            if flags & 1 == 0 {
                return chain;
            }
            index = u16::from_le_bytes([raw[14], raw[15]]).into();
        }
    }

    fn execute(&self, head: u16) {
        let chain = self.chain(head);
        assert!(chain.is_sorted_by_key(|(_, _, writes)| *writes), "readable parts come first: {chain:?}");
        let (&(header, header_len, _), rest) = chain.split_first().unwrap();
        let (&(status, 1, true), data) = rest.split_last().unwrap() else {
            panic!("no status byte: {chain:?}");
        };
        assert_eq!(header_len, 16);
        assert!(data.len() <= self.0.features.seg_max as usize);
        let header = self.get(header, 16);
        let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
        let mut at = usize::try_from(u64::from_le_bytes(header[8..].try_into().unwrap())).unwrap() * 512;
        self.0.requests.borrow_mut().push(kind);
        let mut disk = self.0.disk.borrow_mut();
        for &(address, len, writes) in data {
            match kind {
                0 => {
                    assert!(writes);
                    self.put(address, &disk[at..at + len]);
                }
                1 => {
                    assert!(!writes);
                    disk[at..at + len].copy_from_slice(&self.get(address, len));
                }
                8 => self.put(address, b"serial-number\0\0\0\0\0\0\0"),
                11 => {
                    let range = self.get(address, 16);
                    let sector = usize::try_from(u64::from_le_bytes(range[..8].try_into().unwrap())).unwrap();
                    let count = u32::from_le_bytes(range[8..12].try_into().unwrap()) as usize;
                    assert!(count <= 64, "max_discard_sectors");
                    disk[sector * 512..][..count * 512].fill(0);
                }
                other => panic!("request type {other}"),
            }
            at += len;
        }
        if self.0.fault.get() != Fault::NoStatus {
            self.put(status, &[0]);
        }
    }
}

impl Registers for Device {
    fn read32(&self, offset: usize) -> u32 {
        let (state, features) = (&self.0, &self.0.features);
        let bit = |on: bool, bit: u32| u32::from(on) << bit;
        match offset {
            0x000 => 0x7472_6976,
            0x004 => {
                if features.modern {
                    2
                } else {
                    1
                }
            }
            0x008 => 2,
            0x010 if state.registers.borrow()[0x14 / 4] == 0 => {
                bit(true, 2)
                    | bit(features.read_only, 5)
                    | bit(true, 6)
                    | bit(true, 9)
                    | bit(true, 13)
                    | bit(features.indirect, 28)
                    | bit(features.event_idx, 29)
                    | bit(true, 22)
            }
            0x010 => bit(features.modern, 0),
            0x034 => features.queue,
            0x060 => state.interrupt.get(),
            0x100 => u32::try_from(state.disk.borrow().len() / 512).unwrap(),
            0x10c => features.seg_max,
            0x114 => 512,
            0x124 => 64,
            0x128 => 1,
            0x12c => 8,
            other if other < 0x100 => state.registers.borrow()[other / 4],
            _ => 0,
        }
    }

    fn write32(&self, offset: usize, value: u32) {
        let state = &self.0;
        state.registers.borrow_mut()[offset / 4] = value;
        let pair = |low: usize| {
            let registers = state.registers.borrow();
            u64::from(registers[low / 4]) | u64::from(registers[low / 4 + 1]) << 32
        };
        match offset {
            0x020 => assert_eq!(value & 1 << 22, 0, "a feature was taken that the driver cannot know"),
            0x038 => state.size.set(u16::try_from(value).unwrap()),
            0x040 => {
                assert!(!state.features.modern);
                let start = u64::from(value) * 4096;
                let size = u64::from(state.size.get());
                let rings = start + 16 * size;
                state.queue.set([start, rings, (rings + 6 + 2 * size).next_multiple_of(4096)]);
            }
            0x044 => {
                assert!(state.features.modern);
                state.queue.set([pair(0x80), pair(0x90), pair(0xa0)]);
            }
            0x050 => state.notifications.set(state.notifications.get() + 1),
            0x064 => state.interrupt.set(state.interrupt.get() & !value),
            0x070 if value == 0 => state.interrupt.set(0),
            _ => {}
        }
    }

    fn read8(&self, _: usize) -> u8 {
        0
    }
}

impl Memory {
    fn range(&self, offset: usize, len: usize) -> std::ops::Range<usize> {
        assert!(offset + len <= MEMORY && offset.is_multiple_of(len));
        offset..offset + len
    }
}

impl DmaMemory for Memory {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(BASE)
    }

    fn len(&self) -> usize {
        MEMORY
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.memory.borrow()[offset..offset + into.len()]);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.0.memory.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }

    fn load_u16(&self, offset: usize) -> u16 {
        let range = self.range(offset, 2);
        u16::from_le_bytes(self.0.memory.borrow()[range].try_into().unwrap())
    }

    fn store_u16(&self, offset: usize, value: u16) {
        let range = self.range(offset, 2);
        self.0.memory.borrow_mut()[range].copy_from_slice(&value.to_le_bytes());
    }

    fn load_u32(&self, offset: usize) -> u32 {
        let range = self.range(offset, 4);
        u32::from_le_bytes(self.0.memory.borrow()[range].try_into().unwrap())
    }

    fn store_u64(&self, offset: usize, value: u64) {
        let range = self.range(offset, 8);
        self.0.memory.borrow_mut()[range].copy_from_slice(&value.to_le_bytes());
    }

    fn full_barrier(&self) {}
}
