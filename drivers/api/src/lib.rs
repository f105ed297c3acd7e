//! The vocabulary between drivers and the domain that hosts them.
//!
//! Drivers never depend on each other: a back end does not know which disk it serves, and a disk does
//! not know who asks. What they have in common is this crate, which holds traits and plain values only:
//!
//! | trait | who implements it | who uses it |
//! |---|---|---|
//! | [`Disk`] | physical disks (`virtio-blk`), [`DiskView`] | `blkback`, [`SectorIo`] |
//! | [`Sectors`] | [`SectorIo`] | `gpt`, `fat32` |
//! | [`SharedPage`] | the host domain, over a page that another domain also writes | `blkback`, `conback` |
//! | [`Grants`], [`MappedPage`] | the host domain, over its grant hypercalls | `blkback` |
//! | [`EventPort`] | the host domain, over a bound event channel | `blkback`, `conback` |
//! | [`net::Port`] | `netback`, and whatever else a switch connects | the switch |
//! | [`net::CopyGrants`] | the host domain, over its grant hypercalls | `netback`, the switch |
//! | [`DmaMemory`] | the host domain, over memory of its own | [`SectorIo`], `virtio-blk` |
//! | [`HostMemory`] | the host domain, over such memory that no device reaches | `netport` |
//!
//! [`BackRing`], [`Control`] and [`Handshake`] are the parts of a back end that are the same for every kind of device, and
//! [`gather::Gather`] the part of a port that fetches frames into buffers; [`checksum`] is what whoever completes or checks them needs.
//!
//! Everything here is for one thread (one vCPU, one executor): futures are not `Send`, and interior
//! state sits in `Cell`s. What an interrupt handler may call says so.
//!
//! [`sys::Window`] implements the memory traits over a raw pointer; it is the crate's only unsafe code.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod checksum;
mod control;
mod disk;
mod dma;
mod event;
#[cfg(feature = "fake")]
pub mod fake;
pub mod gather;
mod grants;
mod handshake;
pub mod net;
pub mod published;
mod ring;
mod sector;
mod shared;
pub mod sys;
mod view;
mod wait;

#[cfg(test)]
mod tests;

pub use control::{Control, End};
pub use disk::{BusAddr, Disk, DiskError, DiskInfo, DiskMemory, SECTOR_SIZE, Segment, total_sectors};
pub use dma::{DmaMemory, HostMemory};
pub use event::EventPort;
pub use grants::{Access, Grants, MapError, MappedPage, PageCopy};
pub use handshake::{Action, Handshake};
pub use ring::BackRing;
pub use sector::{SectorIo, Sectors};
pub use shared::{PAGE_SIZE, SharedPage};
pub use view::{DiskView, Extent, ViewError};
pub use wait::WaitQueue;
