//! The driver against a device that follows descriptors and nothing else, and against devices that misbehave.

mod device;
mod misbehaviour;
mod rules;

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use driver_api::{BusAddr, DiskError, Segment};

use device::{DATA, Device, Features, Memory};

use crate::VirtioBlk;

type Disk = VirtioBlk<Device, Memory>;

/// A started disk and its device.
fn started(features: Features) -> (Device, Disk) {
    let device = Device::new(features);
    let disk = VirtioBlk::new(device.clone(), device.memory()).unwrap();
    (device, disk)
}

/// A segment of data memory.
fn at(offset: u64, len: u32) -> Segment {
    Segment { bus: BusAddr::new(DATA + offset), len }
}

/// Drives one request with the device answering all there is after each poll.
fn complete<T>(device: &Device, disk: &Disk, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..1000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        device.process();
        disk.on_interrupt();
    }
    panic!("the request hangs");
}

fn poll<F: Future<Output = Result<(), DiskError>>>(future: core::pin::Pin<&mut F>) -> Option<Result<(), DiskError>> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
