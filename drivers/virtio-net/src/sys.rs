//! The rings of `virtio-drivers` over buffers in one stretch of memory: the crate's only unsafe code.
#![allow(unsafe_code, reason = "a buffer stays with the device after the call that lends it")]

use core::fmt;
use core::slice;
use core::sync::atomic::{Ordering, fence};

use driver_api::sys::Window;
use driver_api::{DmaMemory, PAGE_SIZE};
use virtio_drivers::Hal;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::Transport;

use crate::rings::{BUFFER, BUFFERS, DEFAULT_MTU, MAX_MTU, MEMORY, Received, Rings};

/// Entries of each ring: a buffer takes one.
const ENTRIES: usize = BUFFERS as usize;

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The device did not keep to the start-up protocol.
    Device(virtio_drivers::Error),
    /// The memory given for the buffers is too small or does not start at a page.
    Memory,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => write!(f, "the virtio network device did not start: {error}"),
            Self::Memory => f.write_str("the memory for the network device's buffers is too small"),
        }
    }
}

impl core::error::Error for InitError {}

/// The two rings of a device, with the buffers that it fills and sends.
pub struct Queues<H: Hal, T: Transport> {
    device: VirtIONetRaw<H, T, ENTRIES>,
    memory: Window,
    /// The buffer behind each descriptor that the device has.
    receiving: [Option<u16>; ENTRIES],
    sending: [Option<u16>; ENTRIES],
    header: usize,
    mtu: u16,
}

impl<H: Hal, T: Transport> Queues<H, T> {
    /// Starts the device behind `transport`, with buffers in `memory`, which has [`MEMORY`] bytes and serves nothing else.
    ///
    /// # Errors
    /// The device cannot be used.
    pub fn new(mut transport: T, memory: Window) -> Result<Self, InitError> {
        let aligned = memory.bus_addr().raw().is_multiple_of(PAGE_SIZE as u64);
        if memory.len() < MEMORY || !aligned {
            return Err(InitError::Memory);
        }
        let mtu = offered_mtu(&mut transport);
        let device = VirtIONetRaw::new(transport).map_err(InitError::Device)?;
        let header = device.fill_buffer_header(&mut [0; 64]).map_err(InitError::Device)?;
        Ok(Queues { device, memory, receiving: [None; ENTRIES], sending: [None; ENTRIES], header, mtu })
    }
}

/// The MTU that a device offers (VIRTIO 1.2, 5.1.3 and 5.1.4); the crate does not ask for it.
fn offered_mtu(transport: &mut impl Transport) -> u16 {
    const OFFERED: u64 = 1 << 3;
    const PLACE: usize = 10;
    if transport.read_device_features() & OFFERED == 0 {
        return DEFAULT_MTU;
    }
    transport.read_config_space(PLACE).map_or(DEFAULT_MTU, |mtu: u16| mtu.clamp(DEFAULT_MTU, MAX_MTU))
}

/// A buffer by its place among those of both directions. `None` if there is no such buffer.
///
/// # Safety
/// The device must not have the buffer, or the slice must only be named, not accessed; it must be gone before anything else
/// accesses the memory.
unsafe fn buffer<'a>(memory: &Window, place: usize, len: usize) -> Option<&'a mut [u8]> {
    let start = place.checked_mul(BUFFER).filter(|start| start + BUFFER <= memory.len())?;
    // SAFETY: in bounds of memory that is mapped for as long as the window exists (`Window::new`) and serves nothing else
    // (`Queues::new`); the caller vouches for who accesses it.
    Some(unsafe { slice::from_raw_parts_mut(memory.base().as_ptr().add(start), len.min(BUFFER)) })
}

/// The place of a buffer for sending.
fn send_place(buffer: u16) -> usize {
    usize::from(BUFFERS) + usize::from(buffer)
}

impl<H: Hal, T: Transport> Rings for Queues<H, T> {
    fn mac(&self) -> [u8; 6] {
        self.device.mac_address()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn memory(&self) -> &impl DmaMemory {
        &self.memory
    }

    fn header(&self) -> usize {
        self.header
    }

    fn give(&mut self, number: u16) {
        if number >= BUFFERS || self.receiving.contains(&Some(number)) {
            return;
        }
        // SAFETY: the device does not have the buffer (checked above), and the slice ends with this call.
        let Some(slice) = (unsafe { buffer(&self.memory, number.into(), BUFFER) }) else { return };
        // SAFETY: while the device has the buffer, `receiving` says so, and it is not accessed before `received` took it back.
        if let Ok(token) = unsafe { self.device.receive_begin(slice) }
            && let Some(place) = self.receiving.get_mut(usize::from(token))
        {
            *place = Some(number);
        }
    }

    fn received(&mut self) -> Option<Received> {
        let token = self.device.poll_receive().or_else(|| {
            // The device must see from where on an interrupt is wanted before it is looked at once more.
            fence(Ordering::SeqCst);
            self.device.poll_receive()
        })?;
        let number = self.receiving.get_mut(usize::from(token))?.take()?;
        // SAFETY: the slice names what `give` lent under this token; it ends with this call.
        let slice = unsafe { buffer(&self.memory, number.into(), BUFFER) }?;
        // SAFETY: the token is one that `receive_begin` gave out for this very buffer and that has not come back yet.
        let (offset, len) = match unsafe { self.device.receive_complete(token, slice) } {
            Ok((offset, len)) if offset + len <= BUFFER => (offset, len),
            // Longer than the buffer, or shorter than a header: nothing that could be passed on.
            Ok(_) | Err(_) => (0, 0),
        };
        Some(Received { buffer: number, offset, len })
    }

    fn send(&mut self, number: u16, len: usize) {
        if number >= BUFFERS || self.sending.contains(&Some(number)) {
            return;
        }
        let whole = (self.header + len).min(BUFFER);
        // SAFETY: the device does not have the buffer (checked above), and the slice ends with this call.
        let Some(slice) = (unsafe { buffer(&self.memory, send_place(number), whole) }) else { return };
        if self.device.fill_buffer_header(slice).is_err() {
            return;
        }
        // SAFETY: while the device has the buffer, `sending` says so, and it is not accessed before `sent` took it back.
        if let Ok(token) = unsafe { self.device.transmit_begin(slice) }
            && let Some(place) = self.sending.get_mut(usize::from(token))
        {
            *place = Some(number);
        }
    }

    fn sent(&mut self) -> Option<u16> {
        let token = self.device.poll_transmit()?;
        let number = self.sending.get_mut(usize::from(token))?.take()?;
        // SAFETY: the slice names what `send` lent under this token; it ends with this call.
        let slice = unsafe { buffer(&self.memory, send_place(number), BUFFER) }?;
        // SAFETY: the token is one that `transmit_begin` gave out for this buffer. The length differs, which only a HAL that
        // copies would notice; the memory is reached by the device where it is.
        let _ = unsafe { self.device.transmit_complete(token, slice) };
        Some(number)
    }

    fn acknowledge(&mut self) {
        self.device.ack_interrupt();
    }
}
