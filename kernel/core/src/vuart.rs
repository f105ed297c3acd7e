//! An SBSA UART, the part of a PL011 that a generic driver uses, over a console ring (Arm DDI 0183, Arm BSA).
//!
//! What the guest writes goes into the ring's `out`, what the back end puts into `in` is what the guest reads. The
//! ring's page belongs to the domain and both ends write to it, so that each index is read once and checked: an
//! impossible distance counts as a full `out` or an empty `in`.

use hypercall_abi::arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPL011_SPI};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{Gfn, Port};
use hypercall_abi::xencons::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};
use spin::mutex::SpinMutex;

use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::evtchn;
use crate::frame::FrameRef;
use crate::hw::Hw;
use crate::kernel::Kernel;

/// Registers, by their offset (DDI 0183, section 3.2).
mod register {
    pub(super) const DATA: u64 = 0x00;
    pub(super) const FLAGS: u64 = 0x18;
    pub(super) const CONTROL: u64 = 0x30;
    pub(super) const MASK: u64 = 0x38;
    pub(super) const RAW: u64 = 0x3C;
    pub(super) const MASKED: u64 = 0x40;
    pub(super) const CLEAR: u64 = 0x44;
    pub(super) const IDS: u64 = 0xFE0;
}

/// `UARTFR`: nothing to read, no room to write, nothing left to send.
const RX_EMPTY: u32 = 1 << 4;
const TX_FULL: u32 = 1 << 5;
const TX_EMPTY: u32 = 1 << 7;
/// Interrupts: data to read, room to write, data that has waited.
const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RX_TIMEOUT: u32 = 1 << 6;
/// All eleven interrupts that a driver may mask.
const INTERRUPTS: u32 = 0x7FF;
/// `UARTCR`: enabled, both ways.
const ENABLED: u64 = 0x301;
/// The eight identification registers of a PL011 revision 3.
const IDS: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0D, 0xF0, 0x05, 0xB1];
/// Free bytes from which on there is room to write.
const ROOM: u32 = OUT_LEN / 2;
/// Sizes of the rings, as their indices count.
#[allow(clippy::cast_possible_truncation, reason = "a few KiB")]
const IN_LEN: u32 = IN_SIZE as u32;
#[allow(clippy::cast_possible_truncation, reason = "a few KiB")]
const OUT_LEN: u32 = OUT_SIZE as u32;

struct Ring {
    /// Keeps the page from being given away.
    page: FrameRef,
    port: Port,
}

#[derive(Default)]
struct State {
    ring: Option<Ring>,
    mask: u32,
    /// Interrupts that the guest has cleared and that nothing has raised again since.
    cleared: u32,
}

/// The emulated UART of a domain. At first nobody is connected to it: it sends into the void.
#[derive(Default)]
pub struct Vuart {
    /// Guards the registers and the ring's indices on our side. Not held while events are sent.
    state: SpinMutex<State>,
}

/// What the ring holds.
#[derive(Default)]
struct Level {
    /// Bytes that the guest can read.
    readable: u32,
    /// Bytes that it has written and nobody has fetched.
    unsent: u32,
}

impl Ring {
    fn at(&self, offset: usize) -> Pa {
        self.page.pa().add(offset as u64)
    }

    fn index<H: Hw>(&self, offset: usize) -> u32 {
        H::load32(self.at(offset))
    }

    fn level<H: Hw>(&self) -> Level {
        let readable = self.index::<H>(IN_PROD).wrapping_sub(self.index::<H>(IN_CONS));
        let unsent = self.index::<H>(OUT_PROD).wrapping_sub(self.index::<H>(OUT_CONS));
        Level { readable: if readable > IN_LEN { 0 } else { readable }, unsent: unsent.min(OUT_LEN) }
    }

    /// Fetches a byte; `None` if there is none.
    fn read<H: Hw>(&self) -> Option<u8> {
        if self.level::<H>().readable == 0 {
            return None;
        }
        let consumer = self.index::<H>(IN_CONS);
        let mut byte = [0];
        H::read_bytes(self.at(IN + consumer as usize % IN_SIZE), &mut byte);
        H::store32(self.at(IN_CONS), consumer.wrapping_add(1));
        Some(byte[0])
    }

    /// Adds a byte; false if there is no room.
    fn write<H: Hw>(&self, byte: u8) -> bool {
        if self.level::<H>().unsent == OUT_LEN {
            return false;
        }
        let producer = self.index::<H>(OUT_PROD);
        H::write_bytes(self.at(OUT + producer as usize % OUT_SIZE), &[byte]);
        H::store32(self.at(OUT_PROD), producer.wrapping_add(1));
        true
    }
}

impl State {
    fn level<H: Hw>(&self) -> Level {
        self.ring.as_ref().map_or_else(Level::default, Ring::level::<H>)
    }

    fn flags<H: Hw>(&self) -> u32 {
        let level = self.level::<H>();
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(level.readable == 0, RX_EMPTY) | flag(level.unsent == 0, TX_EMPTY) | flag(level.unsent == OUT_LEN, TX_FULL)
    }

    /// Interrupts that want to be seen, masked or not.
    fn raw<H: Hw>(&self) -> u32 {
        let level = self.level::<H>();
        let rx = if level.readable > 0 { RX | RX_TIMEOUT } else { 0 };
        let tx = if OUT_LEN - level.unsent >= ROOM { TX } else { 0 };
        (rx | tx) & !self.cleared
    }

    /// Makes the interrupt line follow.
    fn signal<H: Hw>(&self, kernel: &Kernel<H>, domain: &Domain<H>) {
        let high = self.raw::<H>() & self.mask != 0;
        domain.dist.set_level::<H>(domain, GUEST_VPL011_SPI, high).notify(kernel, domain);
    }

    fn read<H: Hw>(&mut self, offset: u64) -> u64 {
        match offset {
            register::DATA => u64::from(self.ring.as_ref().and_then(Ring::read::<H>).unwrap_or(0)),
            register::FLAGS => u64::from(self.flags::<H>()),
            register::CONTROL => ENABLED,
            register::MASK => u64::from(self.mask),
            register::RAW => u64::from(self.raw::<H>()),
            register::MASKED => u64::from(self.raw::<H>() & self.mask),
            register::IDS..GUEST_PL011_SIZE => {
                let id = IDS.get(((offset - register::IDS) / 4) as usize);
                u64::from(id.copied().unwrap_or(0))
            }
            _ => 0,
        }
    }

    fn write<H: Hw>(&mut self, offset: u64, value: u64) {
        #[allow(clippy::cast_possible_truncation, reason = "registers have 32 bits, data 8")]
        let (value, byte) = (value as u32, value as u8);
        match offset {
            register::DATA => {
                // A byte for which there is no room is lost, as the driver was told beforehand.
                let _ = self.ring.as_ref().is_some_and(|ring| ring.write::<H>(byte));
                self.cleared &= !TX;
            }
            register::MASK => self.mask = value & INTERRUPTS,
            register::CLEAR => self.cleared |= value & INTERRUPTS,
            _ => {}
        }
    }
}

impl Vuart {
    /// Connects it to the ring in page `gfn` of its domain and to `port`, whose other end is the back end's.
    pub fn connect<H: Hw>(&self, domain: &Domain<H>, gfn: Gfn, port: Port) -> Result<(), XenError> {
        let ipa = gfn.to_ipa().ok_or(XenError::Inval)?;
        let page = domain.p2m.pin(Ipa::new(ipa), true)?;
        self.state.lock().ring = Some(Ring { page, port });
        Ok(())
    }

    /// Forgets the ring; part of destroying the domain.
    pub fn disconnect(&self) {
        // The page goes back after the lock.
        let ring = self.state.lock().ring.take();
        drop(ring);
    }

    /// Whether `port` is where the back end announces what it did to the ring.
    pub fn listens_on(&self, port: Port) -> bool {
        self.state.lock().ring.as_ref().is_some_and(|ring| ring.port == port)
    }

    /// The back end has changed the ring: the interrupt line follows.
    pub fn on_event<H: Hw>(&self, kernel: &Kernel<H>, domain: &Domain<H>) {
        let mut state = self.state.lock();
        state.cleared = 0;
        state.signal(kernel, domain);
    }
}

/// A load (`None`) or store of the UART of a domain. `None` if there is no UART at this address.
#[inline(never)]
pub(crate) fn access<H: Hw>(
    kernel: &Kernel<H>,
    domain: &H::Shared<Domain<H>>,
    ipa: Ipa,
    store: Option<u64>,
) -> Option<u64> {
    let offset = ipa.raw().wrapping_sub(GUEST_PL011_BASE);
    let uart = domain.vuart.as_ref().filter(|_| offset < GUEST_PL011_SIZE)?;
    let (value, port) = {
        let mut state = uart.state.lock();
        let value = match store {
            Some(value) => {
                state.write::<H>(offset, value);
                0
            }
            None => state.read::<H>(offset),
        };
        state.signal(kernel, domain);
        (value, state.ring.as_ref().map(|ring| ring.port))
    };
    if offset == register::DATA
        && let Some(port) = port
    {
        // The port may have been closed by the guest; then nobody is told.
        let _ = evtchn::send(kernel, domain, port);
    }
    Some(value)
}
