//! What a user of the disk may rely on, over every kind of queue.

use core::pin::pin;
use core::task::{Context, Waker};

use driver_api::{Disk as _, DiskError, Segment};
use proptest::prelude::*;

use super::device::Features;
use super::{at, complete, poll, started};

/// Every combination of register layout, descriptor tables and notification suppression, large and small.
fn every_kind() -> Vec<Features> {
    let mut kinds = Vec::new();
    for bits in 0..8u32 {
        for (queue, seg_max) in [(256, 126), (1024, 254), (16, 14), (4, 1)] {
            kinds.push(Features {
                modern: bits & 1 != 0,
                indirect: bits & 2 != 0,
                event_idx: bits & 4 != 0,
                queue,
                seg_max,
                ..Features::default()
            });
        }
    }
    kinds
}

#[test]
fn scattered_segments_are_read_and_written_in_order() {
    for features in every_kind() {
        let (device, disk) = started(features);
        let before = device.0.disk.borrow()[8 * 512..][..2048].to_vec();
        let segments = [at(5120, 1024), at(0, 512), at(9216, 512)];
        complete(&device, &disk, disk.read(8, &segments)).unwrap();
        assert_eq!(device.data(5120, 1024), before[..1024], "{features:?}");
        assert_eq!(device.data(0, 512), before[1024..1536]);
        assert_eq!(device.data(9216, 512), before[1536..]);
        complete(&device, &disk, disk.write(100, &segments)).unwrap();
        assert_eq!(device.0.disk.borrow()[100 * 512..][..2048], before);
    }
}

#[test]
fn more_segments_than_the_device_takes_become_several_requests() {
    for features in every_kind() {
        let (device, disk) = started(features);
        let segments: Vec<Segment> = (0..300).rev().map(|n| at(n * 512, 512)).collect();
        complete(&device, &disk, disk.read(0, &segments)).unwrap();
        for n in 0..300 {
            let expected = &device.0.disk.borrow()[(299 - n) * 512..][..512];
            assert_eq!(device.data(n * 512, 512), expected, "{features:?}");
        }
    }
}

#[test]
fn requests_overlap_and_may_finish_in_any_order() {
    let (device, disk) = started(Features::default());
    device.0.reverse.set(true);
    let parts: Vec<[Segment; 1]> = (0..3).map(|n| [at(n * 512, 512)]).collect();
    let mut a = pin!(disk.read(1, &parts[0]));
    let mut b = pin!(disk.read(2, &parts[1]));
    let mut c = pin!(disk.read(3, &parts[2]));
    assert_eq!((poll(a.as_mut()), poll(b.as_mut()), poll(c.as_mut())), (None, None, None));
    assert_eq!(device.waiting(), 3);
    device.process();
    assert_eq!(device.0.interrupts.get(), 1, "one interrupt for three answers");
    disk.on_interrupt();
    assert_eq!((poll(a.as_mut()), poll(b.as_mut()), poll(c.as_mut())), (Some(Ok(())), Some(Ok(())), Some(Ok(()))));
    assert_eq!(device.data(1024, 512), device.0.disk.borrow()[3 * 512..][..512]);
}

#[test]
fn a_busy_device_is_notified_once() {
    let (device, disk) = started(Features::default());
    let part = [at(0, 512)];
    let mut a = pin!(disk.read(1, &part));
    let mut b = pin!(disk.read(2, &part));
    assert_eq!((poll(a.as_mut()), poll(b.as_mut())), (None, None));
    assert_eq!(device.0.notifications.get(), 1);
    device.process();
    disk.on_interrupt();
    let mut c = pin!(disk.read(3, &part));
    assert_eq!(poll(c.as_mut()), None);
    assert_eq!(device.0.notifications.get(), 2);
}

#[test]
fn a_full_queue_makes_requests_wait_their_turn() {
    for features in every_kind() {
        let (device, disk) = started(features);
        let part = [at(0, 512)];
        let mut futures: Vec<_> = (0..100).map(|n| Box::pin(disk.read(n, &part))).collect();
        let mut rounds = 0;
        while !futures.is_empty() {
            futures.retain_mut(|future| match poll(future.as_mut()) {
                Some(result) => {
                    result.unwrap();
                    false
                }
                None => true,
            });
            device.process();
            disk.on_interrupt();
            rounds += 1;
            assert!(rounds < 1000, "{features:?}");
        }
        assert_eq!(device.0.requests.borrow().len(), 100);
    }
}

#[test]
fn a_dropped_request_keeps_its_slot_until_the_device_has_answered() {
    let features = Features { queue: 1, ..Features::default() };
    let (device, disk) = started(features);
    let part = [at(0, 512)];
    {
        let mut dropped = pin!(disk.read(1, &part));
        assert_eq!(poll(dropped.as_mut()), None);
    }
    let mut next = pin!(disk.read(2, &part));
    assert_eq!(poll(next.as_mut()), None);
    assert_eq!(device.waiting(), 1, "the second request waits for the slot");
    device.process();
    disk.on_interrupt();
    assert_eq!(poll(next.as_mut()), None);
    assert_eq!(device.waiting(), 1);
    device.process();
    disk.on_interrupt();
    assert_eq!(poll(next.as_mut()), Some(Ok(())));
}

#[test]
fn flush_discard_and_serial_number_work() {
    for features in every_kind() {
        let (device, disk) = started(features);
        complete(&device, &disk, disk.flush()).unwrap();
        assert_eq!(*device.0.requests.borrow(), [4]);
        complete(&device, &disk, disk.discard(100, 150)).unwrap();
        assert!(device.0.disk.borrow()[100 * 512..250 * 512].iter().all(|&byte| byte == 0));
        assert_eq!(*device.0.requests.borrow(), [4, 11, 11, 11], "in pieces that the device takes");
        let serial = complete(&device, &disk, disk.serial()).unwrap();
        assert_eq!(&serial, b"serial-number\0\0\0\0\0\0\0");
    }
}

#[test]
fn requests_outside_the_disk_never_reach_the_device() {
    let (device, disk) = started(Features::default());
    let whole = [at(0, 4096)];
    for (sector, segments, error) in [
        (4089, &whole[..], DiskError::OutOfRange),
        (u64::MAX, &whole[..], DiskError::OutOfRange),
        (0, &[][..], DiskError::Segments),
        (0, &[at(0, 100)][..], DiskError::Segments),
        (0, &[at(0, 0)][..], DiskError::Segments),
    ] {
        assert_eq!(complete(&device, &disk, disk.read(sector, segments)), Err(error));
        assert_eq!(complete(&device, &disk, disk.write(sector, segments)), Err(error));
    }
    assert_eq!(complete(&device, &disk, disk.discard(4096, 1)), Err(DiskError::OutOfRange));
    assert!(device.0.requests.borrow().is_empty());
}

#[test]
fn a_read_only_disk_says_so_itself() {
    let (device, disk) = started(Features { read_only: true, ..Features::default() });
    assert!(disk.info().read_only);
    let part = [at(0, 512)];
    assert_eq!(complete(&device, &disk, disk.write(0, &part)), Err(DiskError::ReadOnly));
    assert_eq!(complete(&device, &disk, disk.discard(0, 1)), Err(DiskError::ReadOnly));
    assert_eq!(complete(&device, &disk, disk.read(0, &part)), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_requests_leave_the_disk_of_a_plain_array(
        kind in 0usize..32,
        steps in proptest::collection::vec(
            (any::<bool>(), 0u64..3000, proptest::collection::vec(1u32..9, 1..40)),
            1..20,
        ),
    ) {
        let kinds = every_kind();
        let (device, disk) = started(kinds[kind]);
        let mut model = device.0.disk.borrow().clone();
        for (number, (write, sector, sizes)) in steps.into_iter().enumerate() {
            let mut offset = 0;
            let segments: Vec<Segment> = sizes
                .iter()
                .map(|&size| {
                    let segment = at(offset, size * 512);
                    offset += u64::from(size) * 512 + 1024;
                    segment
                })
                .collect();
            let mut place = usize::try_from(sector).unwrap() * 512;
            if write {
                for segment in &segments {
                    let (from, len) = (usize::try_from(segment.bus.raw() - super::DATA).unwrap(), segment.len as usize);
                    let data: Vec<u8> = (0..len).map(|n| (n * 7 + number).to_le_bytes()[0]).collect();
                    device.set_data(from, &data);
                    model[place..place + len].copy_from_slice(&data);
                    place += len;
                }
                complete(&device, &disk, disk.write(sector, &segments)).unwrap();
            } else {
                complete(&device, &disk, disk.read(sector, &segments)).unwrap();
                for segment in &segments {
                    let (from, len) = (usize::try_from(segment.bus.raw() - super::DATA).unwrap(), segment.len as usize);
                    prop_assert!(device.data(from, len) == model[place..place + len]);
                    place += len;
                }
            }
        }
        prop_assert!(*device.0.disk.borrow() == model);
    }
}

#[test]
fn a_disk_that_has_grown_says_so_and_serves_its_new_sectors() {
    let (device, disk) = started(Features::default());
    let before = disk.info().sectors;
    assert_eq!(complete(&device, &disk, disk.read(before, &[at(0, 512)])), Err(DiskError::OutOfRange));
    let mut grown = pin!(disk.resized(before));
    let mut look = || grown.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(look().is_pending());
    device.grow(8);
    disk.on_interrupt();
    assert!(look().is_ready());
    assert_eq!(disk.info().sectors, before + 8);
    assert_eq!(complete(&device, &disk, disk.read(before, &[at(0, 8 * 512)])), Ok(()));
    assert_eq!(device.data(0, 512), [0; 512]);
}
