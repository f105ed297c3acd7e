//! The pages that requests name: mapped, kept mapped, or copied to and from.

use hypercall_abi::blkif::{BlkOp, BlkStatus, Segment};
use hypercall_abi::ids::GrantRef;

use super::front::{direct, indirect, whole};
use super::world::{Options, device};
use crate::Limits;

const OK: i16 = BlkStatus::Okay as i16;
const ERROR: i16 = BlkStatus::Error as i16;

#[test]
fn persistent_grants_are_mapped_once_and_bounded() {
    let options = Options {
        persistent: true,
        limits: Limits { persistent_grants: 8, ..Limits::default() },
        ..Options::default()
    };
    device(
        options,
        |_| {},
        async |front, control| {
            let calls = |front: &super::front::Front| front.memory.map_calls.get();
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[100, 101])).await, OK);
            let before = calls(front);
            for id in 2..10 {
                assert_eq!(front.ask(direct(id, BlkOp::Read, 0, &[101, 100])).await, OK);
            }
            assert_eq!(calls(front), before, "known grants need no hypercall");
            assert!(front.memory.page_mapped(100));
            for page in 0..40 {
                assert_eq!(front.ask(direct(20, BlkOp::Write, 0, &[100 + page])).await, OK);
            }
            assert!(control.stats().persistent <= 8);
            assert!(front.memory.mapped() <= 9, "the ring and eight grants");
        },
    );
}

#[test]
fn a_request_with_more_pages_than_the_cache_holds_still_works() {
    let options = Options {
        persistent: true,
        limits: Limits { persistent_grants: 4, ..Limits::default() },
        ..Options::default()
    };
    device(
        options,
        |disk| disk.bytes.borrow_mut().fill(9),
        async |front, _| {
            let segments: Vec<Segment> = (100..164).map(whole).collect();
            for id in 0..3 {
                let request = indirect(&front.memory, id, BlkOp::Read, 0, 50, &segments);
                assert_eq!(front.ask(request).await, OK);
            }
            assert_eq!(front.memory.read(163, 0, 4096), [9; 4096]);
        },
    );
}

#[test]
fn a_segment_may_repeat_a_page() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 100, 100])).await, OK);
        },
    );
}

#[test]
fn a_page_that_was_not_granted_fails_its_request_alone() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.grant(101, false, false);
            front.memory.grant(102, true, false);
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 101])).await, ERROR);
            assert!(!front.memory.page_mapped(100), "the page that could be mapped is given back");
            assert_eq!(front.ask(direct(2, BlkOp::Read, 0, &[102])).await, ERROR);
            assert_eq!(front.ask(direct(3, BlkOp::Write, 0, &[102])).await, OK, "reading the page is allowed");
            let mut request = direct(4, BlkOp::Read, 0, &[100]);
            request.seg[0].gref = GrantRef(u32::MAX);
            assert_eq!(front.ask(request).await, ERROR);
            assert_eq!(front.ask(direct(5, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}

#[test]
fn having_no_room_to_map_is_an_error_to_the_guest_and_passes() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.room.set(2);
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 101])).await, ERROR);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}

#[test]
fn a_disk_in_memory_is_copied_to_and_from_and_no_page_is_mapped() {
    let outcome = device(
        Options::default(),
        |disk| disk.is_memory = true,
        async |front, _| {
            let before = front.memory.mapped();
            front.memory.write(10, 0, &[0x5a; 4096]);
            front.memory.write(11, 0, &[0xa5; 4096]);
            // From the middle of a page of the disk, so that each segment lies in two.
            assert_eq!(front.ask(direct(1, BlkOp::Write, 4, &[10, 11])).await, OK);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 4, &[20, 21])).await, OK);
            assert_eq!(front.memory.read(20, 0, 4096), [0x5a; 4096]);
            assert_eq!(front.memory.read(21, 0, 4096), [0xa5; 4096]);
            let mut part = direct(3, BlkOp::Read, 11, &[22]);
            (part.seg[0].first_sect, part.seg[0].last_sect) = (6, 7);
            assert_eq!(front.ask(part).await, OK);
            assert_eq!(front.memory.read(22, 3072, 1024), [[0x5a; 512], [0xa5; 512]].concat());
            assert_eq!(front.memory.read(22, 0, 3072), [0; 3072]);
            front.memory.grant(30, true, false);
            assert_eq!(front.ask(direct(4, BlkOp::Read, 0, &[30])).await, ERROR, "the page may not be written");
            assert_eq!(front.ask(direct(5, BlkOp::Read, 4088, &[20])).await, ERROR, "the host has no memory for it");
            assert_eq!(front.ask(direct(6, BlkOp::Read, 4092, &[20])).await, ERROR, "the end of the disk");
            assert_eq!(front.memory.mapped(), before);
        },
    );
    assert_eq!(outcome.control.stats().errors, 3);
    assert!(outcome.disk.log.borrow().is_empty());
}

#[test]
fn neighbouring_pages_become_one_segment_for_the_disk() {
    // The fake's DMA check runs over each page of a joined segment.
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[10, 11, 12, 20])).await, OK);
        },
    );
    assert_eq!(outcome.control.stats().wr_sect, 32);
}
