//! The physical network of QEMU `virt`: virtio-net, over the rings of the crate `virtio-drivers`.
//!
//! # How a host uses it
//!
//! ```text
//! let transport = unsafe { MmioTransport::new(header, len) }?;      // one for each virtio,mmio node
//! let nic = VirtioNet::new(sys::Queues::<Hal, _>::new(transport, memory)?, copier);
//! // on the device's interrupt, in thread context:
//! nic.on_interrupt();
//! // what arrives goes to a port of a bridge, and frames of the bridge are put to the device:
//! nic.run(plug).await;
//! ```
//!
//! [`VirtioNet`] is a [`Port`](driver_api::net::Port): a frame is copied once, from where its sender has it to a buffer of the
//! device. A frame that arrives is described where the device has put it, and its buffer goes back to the device when the
//! receivers have copied it. The device takes whole frames only: it is offered neither blank checksums nor long TCP, so that
//! the switch completes what guests left undone. Each buffer holds the longest frame that there is, so that a device whose network
//! carries jumbo frames ([`VirtioNet::mtu`]) needs no chains. It hears everything on its wire, as a port of a bridge must.
//!
//! `virtio-drivers` serves here, other than for disks, because a frame is one buffer of the host: no segments of guests, and no
//! memory that anybody but host and device touches. Its calls on raw buffers are in [`sys`], behind a safe interface
//! ([`Rings`]) in which a buffer belongs either to the host or to the device.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod device;
mod rings;
pub mod sys;

#[cfg(test)]
mod tests;

pub use device::{NicStats, VirtioNet};
pub use rings::{BUFFER, BUFFERS, DEFAULT_MTU, MAX_MTU, MEMORY, Received, Rings};
pub use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
pub use virtio_drivers::{BufferDirection, Hal, PhysAddr};
