//! An SBSA UART, the part of a PL011 that a generic driver uses, over a console ring (Arm DDI 0183, Arm BSA).
//!
//! What the guest writes goes into the ring's `out`, what the back end puts into `in` is what the guest reads. The
//! ring's page belongs to the domain and both ends write to it, so that each index is read once and checked: an
//! impossible distance counts as a full `out` or an empty `in`.

use hypercall_abi::arm::{GUEST_PL011_BASE, GUEST_PL011_SIZE, GUEST_VPL011_SPI};
use hypercall_abi::ids::Port;
use hypercall_abi::xencons::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};

use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::evtchn;
use crate::frame::FrameRef;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vgic;

/// Registers, by their offset (DDI 0183, section 3.2); those that the BSA asks of a generic UART: data, flags, and the
/// interrupts' mask, state, state under the mask and clear register. The error status, of which there is none, is zero
/// like all others.
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const MASK: u64 = 0x38;
const RAW: u64 = 0x3C;
const MASKED: u64 = 0x40;
const CLEAR: u64 = 0x44;

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

/// The emulated UART of a domain. At first nobody is connected to it: it sends into the void.
#[derive(Default)]
pub struct Vuart {
    /// The ring's page, which this keeps from being given away, and the port to its back end.
    pub ring: Option<(FrameRef, Port)>,
    mask: u32,
    /// Interrupts that the guest has cleared and that nothing has raised again since.
    cleared: u32,
}

impl Vuart {
    /// The back end has changed the ring: the interrupt line follows.
    pub fn on_event<H: Hw>(&mut self, kernel: &Kernel<H>, domain: &Domain<H>) {
        self.cleared = 0;
        self.signal(kernel, domain);
    }

    fn at(&self, offset: usize) -> Option<Pa> {
        self.ring.as_ref().map(|(page, _)| page.pa().add(offset as u64))
    }

    fn index<H: Hw>(&self, offset: usize) -> u32 {
        self.at(offset).map_or(0, H::load32)
    }

    /// Bytes that the guest can read, and bytes that it has written and nobody has fetched.
    fn levels<H: Hw>(&self) -> (usize, usize) {
        let readable = self.index::<H>(IN_PROD).wrapping_sub(self.index::<H>(IN_CONS)) as usize;
        let unsent = self.index::<H>(OUT_PROD).wrapping_sub(self.index::<H>(OUT_CONS)) as usize;
        (if readable > IN_SIZE { 0 } else { readable }, unsent.min(OUT_SIZE))
    }

    fn flags<H: Hw>(&self) -> u32 {
        let (readable, unsent) = self.levels::<H>();
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(readable == 0, RX_EMPTY) | flag(unsent == 0, TX_EMPTY) | flag(unsent == OUT_SIZE, TX_FULL)
    }

    /// Interrupts that want to be seen, masked or not.
    fn raw<H: Hw>(&self) -> u32 {
        let (readable, unsent) = self.levels::<H>();
        let rx = if readable > 0 { RX | RX_TIMEOUT } else { 0 };
        let tx = if unsent <= OUT_SIZE / 2 { TX } else { 0 };
        (rx | tx) & !self.cleared
    }

    /// Makes the interrupt line follow.
    fn signal<H: Hw>(&self, kernel: &Kernel<H>, domain: &Domain<H>) {
        let high = self.raw::<H>() & self.mask != 0;
        vgic::set_level(kernel, domain, GUEST_VPL011_SPI, high);
    }

    /// Fetches a byte; zero if there is none.
    fn receive<H: Hw>(&self) -> u32 {
        let (consumer, mut byte) = (self.index::<H>(IN_CONS), [0]);
        if let (1.., Some(base)) = (self.levels::<H>().0, self.at(0)) {
            H::read_bytes(base.add((IN + consumer as usize % IN_SIZE) as u64), &mut byte);
            H::store32(base.add(IN_CONS as u64), consumer.wrapping_add(1));
        }
        u32::from(byte[0])
    }

    /// Adds a byte. One for which there is no room is lost, as the driver was told beforehand.
    fn send<H: Hw>(&mut self, byte: u8) {
        let producer = self.index::<H>(OUT_PROD);
        if let (..OUT_SIZE, Some(base)) = (self.levels::<H>().1, self.at(0)) {
            H::write_bytes(base.add((OUT + producer as usize % OUT_SIZE) as u64), &[byte]);
            H::store32(base.add(OUT_PROD as u64), producer.wrapping_add(1));
        }
        self.cleared &= !TX;
    }

    /// What a load of the register at `offset` reads; or does what a store of `store` does.
    #[allow(clippy::cast_possible_truncation, reason = "registers have 32 bits, data 8")]
    fn access<H: Hw>(&mut self, offset: u64, store: Option<u64>) -> u32 {
        match (offset, store) {
            (DATA, None) => return self.receive::<H>(),
            (FLAGS, None) => return self.flags::<H>(),
            (MASK, None) => return self.mask,
            (RAW, None) => return self.raw::<H>(),
            (MASKED, None) => return self.raw::<H>() & self.mask,
            (DATA, Some(value)) => self.send::<H>(value as u8),
            (MASK, Some(value)) => self.mask = value as u32 & INTERRUPTS,
            (CLEAR, Some(value)) => self.cleared |= value as u32 & INTERRUPTS,
            _ => {}
        }
        0
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
    let mut uart = domain.vuart.as_ref().filter(|_| offset < GUEST_PL011_SIZE)?.lock();
    let value = uart.access::<H>(offset, store);
    uart.signal(kernel, domain);
    let port = uart.ring.as_ref().map(|(_, port)| *port);
    drop(uart);
    if let (DATA, Some(port)) = (offset, port) {
        // The port may have been closed by the guest; then nobody is told.
        let _ = evtchn::send(kernel, domain, port);
    }
    Some(u64::from(value))
}
