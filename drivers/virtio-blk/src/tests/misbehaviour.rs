//! Devices that break the protocol are stopped, and nobody waits for them.

use core::pin::pin;

use driver_api::{Disk as _, DiskError};

use super::device::{Device, Fault, Features};
use super::{at, complete, poll, started};
use crate::{InitError, Registers, VirtioBlk};

#[test]
fn a_device_that_breaks_the_protocol_is_stopped_and_everyone_is_told() {
    for fault in [
        Fault::UnknownHead(200),
        Fault::UnknownHead(3),
        Fault::UnknownHead(u32::MAX),
        Fault::Twice,
        Fault::JumpAhead,
        Fault::NeedsReset,
    ] {
        let (device, disk) = started(Features::default());
        device.0.fault.set(fault);
        let part = [at(0, 512)];
        let mut a = pin!(disk.read(1, &part));
        let mut b = pin!(disk.read(2, &part));
        assert_eq!((poll(a.as_mut()), poll(b.as_mut())), (None, None));
        device.process();
        disk.on_interrupt();
        let results = (poll(a.as_mut()), poll(b.as_mut()));
        assert!(results.0.is_some() && results.1.is_some(), "{fault:?}: {results:?}");
        assert!(!device.running(), "{fault:?}");
        let later = complete(&device, &disk, disk.read(3, &part));
        assert_eq!(later, Err(DiskError::DeviceBroken), "{fault:?}");
    }
}

#[test]
fn a_request_that_waits_in_line_is_told_too() {
    let (device, disk) = started(Features { queue: 1, ..Features::default() });
    device.0.fault.set(Fault::NeedsReset);
    let part = [at(0, 512)];
    let mut first = pin!(disk.read(1, &part));
    let mut second = pin!(disk.read(2, &part));
    assert_eq!((poll(first.as_mut()), poll(second.as_mut())), (None, None));
    device.process();
    disk.on_interrupt();
    assert_eq!(poll(first.as_mut()), Some(Err(DiskError::DeviceBroken)));
    assert_eq!(poll(second.as_mut()), Some(Err(DiskError::DeviceBroken)));
}

#[test]
fn an_answer_without_a_status_is_not_a_success() {
    let (device, disk) = started(Features::default());
    device.0.fault.set(Fault::NoStatus);
    let part = [at(0, 512)];
    assert_eq!(complete(&device, &disk, disk.read(0, &part)), Err(DiskError::Io));
}

#[test]
fn dropping_the_disk_stops_the_device() {
    let (device, disk) = started(Features::default());
    assert!(device.running());
    drop(disk);
    assert!(!device.running());
}

/// Registers of something that is not a disk.
struct Other(u32, u32, u32);

impl Registers for Other {
    fn read32(&self, offset: usize) -> u32 {
        match offset {
            0 => self.0,
            4 => self.1,
            8 => self.2,
            _ => 0,
        }
    }

    fn write32(&self, offset: usize, _: u32) {
        panic!("register {offset:#x} of another device was written");
    }

    fn read8(&self, _: usize) -> u8 {
        0
    }
}

#[test]
fn what_is_not_a_disk_is_told_apart_and_left_alone() {
    for (registers, error) in [
        (Other(0, 0, 0), InitError::NoTransport),
        (Other(0x7472_6976, 3, 2), InitError::NoTransport),
        (Other(0x7472_6976, 2, 0), InitError::NotADisk(0)),
        (Other(0x7472_6976, 1, 4), InitError::NotADisk(4)),
    ] {
        let memory = Device::new(Features::default()).memory();
        assert_eq!(VirtioBlk::new(registers, memory).err(), Some(error));
    }
}

#[test]
fn a_device_without_a_queue_is_refused() {
    let device = Device::new(Features { queue: 0, ..Features::default() });
    let result = VirtioBlk::new(device.clone(), device.memory());
    assert_eq!(result.err(), Some(InitError::Refused));
}
