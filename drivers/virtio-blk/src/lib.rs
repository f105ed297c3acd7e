//! The physical disk of QEMU `virt`: virtio-blk over virtio-mmio, asynchronous and zero-copy.
//!
//! # How a host uses it
//!
//! ```text
//! let region = unsafe { sys::MmioRegion::new(base, len) };         // one for each virtio,mmio node
//! let queue_memory: Window = /* VirtioBlk::MEMORY bytes, page-aligned, contiguous on the bus */;
//! let disk = match VirtioBlk::new(region, queue_memory) {
//!     Ok(disk) => Rc::new(disk),
//!     Err(InitError::NotADisk(_)) => continue,                      // an empty slot or another device
//!     Err(error) => ...
//! };
//! // on the device's interrupt, in thread context:
//! disk.on_interrupt();
//! ```
//!
//! [`VirtioBlk`] implements [`driver_api::Disk`]: reads and writes take lists of bus addresses, as many requests at
//! once as the queue has room for; further ones wait their turn. `new` needs no interrupt.
//! [`VirtioBlk::on_interrupt`] must not preempt other calls. QEMU's virtio-mmio interrupts are edge-triggered, so
//! an interrupt handler may simply wake a task that calls it.
//!
//! # Why not `virtio-drivers`
//!
//! Its queue takes Rust slices, which may not point at memory that a hostile guest is writing; it has no block
//! request of several segments; and it allocates for each indirect request. What is left to share is a register
//! list. Both register layouts are spoken, the modern one and the legacy one, which QEMU 7.2 offers by default.
//!
//! Facts are from the Virtual I/O Device specification (VIRTIO) 1.2: sections 2.7 (split queue), 4.2 (MMIO) and
//! 5.2 (block device).
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod config;
mod device;
mod queue;
mod regs;
mod slots;
pub mod sys;

#[cfg(test)]
mod tests;

pub use device::{InitError, VirtioBlk};
pub use regs::Registers;
