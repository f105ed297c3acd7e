//! One rule each: what a guest may rely on that reads, writes and discards.

use hypercall_abi::blkif::{BlkOp, BlkStatus, DISCARD_SECURE, DiscardRequest, Request, Segment};
use zerocopy::IntoBytes;

use super::front::{direct, indirect, slot_of, whole};
use super::world::{Options, device};
use crate::End;

const OK: i16 = BlkStatus::Okay as i16;
const ERROR: i16 = BlkStatus::Error as i16;
const UNSUPPORTED: i16 = BlkStatus::OpNotSupp as i16;

fn discard(id: u64, sector: u64, count: u64, flag: u8) -> Request {
    slot_of(
        DiscardRequest {
            operation: BlkOp::Discard.raw(),
            flag,
            id,
            sector_number: sector,
            nr_sectors: count,
            ..DiscardRequest::default()
        }
        .as_bytes(),
    )
}

#[test]
fn what_is_written_is_read_back_through_other_pages() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.write(10, 0, &[0x5a; 4096]);
            front.memory.write(11, 0, &[0xa5; 4096]);
            assert_eq!(front.ask(direct(1, BlkOp::Write, 8, &[10, 11])).await, OK);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 8, &[20, 21])).await, OK);
            assert_eq!(front.memory.read(20, 0, 4096), [0x5a; 4096]);
            assert_eq!(front.memory.read(21, 0, 4096), [0xa5; 4096]);
            assert!(!front.memory.page_mapped(20), "the page is the guest's again when it sees the answer");
        },
    );
    let stats = outcome.control.stats();
    assert_eq!((stats.rd_req, stats.rd_sect, stats.wr_req, stats.wr_sect), (1, 16, 1, 16));
    assert_eq!((stats.errors, stats.in_flight), (0, 0));
    assert_eq!(outcome.end, End::Stopped);
}

#[test]
fn a_segment_within_a_page_moves_only_its_sectors() {
    device(
        Options::default(),
        |disk| disk.bytes.borrow_mut().fill(0x77),
        async |front, _| {
            let mut request = direct(1, BlkOp::Read, 0, &[10]);
            request.seg[0].first_sect = 2;
            request.seg[0].last_sect = 3;
            assert_eq!(front.ask(request).await, OK);
            assert_eq!(front.memory.read(10, 0, 1024), [0; 1024]);
            assert_eq!(front.memory.read(10, 1024, 1024), [0x77; 1024]);
            assert_eq!(front.memory.read(10, 2048, 2048), [0; 2048]);
        },
    );
}

#[test]
fn an_indirect_request_moves_a_mebibyte_and_is_answered_as_its_inner_operation() {
    device(
        Options::default(),
        |disk| disk.bytes.borrow_mut().fill(0x42),
        async |front, _| {
            let segments: Vec<Segment> = (100..356).map(whole).collect();
            let request = indirect(&front.memory, 9, BlkOp::Read, 0, 50, &segments);
            front.put(request.as_bytes());
            front.push();
            let response = front.response().await;
            assert_eq!((response.id, response.operation, response.status), (9, BlkOp::Read.raw(), OK));
            assert_eq!(front.memory.read(100, 0, 256 * 4096), vec![0x42; 256 * 4096]);
        },
    );
}

#[test]
fn a_discard_reaches_the_disk_where_it_can() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(discard(1, 8, 4, 0)).await, OK);
            assert_eq!(front.ask(discard(2, 8, 4, DISCARD_SECURE)).await, UNSUPPORTED);
            assert_eq!(front.ask(discard(3, 4095, 2, 0)).await, ERROR);
            assert_eq!(front.ask(discard(4, u64::MAX, 2, 0)).await, ERROR);
            assert_eq!(front.ask(discard(5, 0, 0, 0)).await, ERROR);
        },
    );
    assert_eq!(outcome.disk.bytes.borrow()[4096..][..2048], [0xdd; 2048]);
    device(
        Options::default(),
        |disk| disk.info.discard = false,
        async |front, _| {
            assert_eq!(front.ask(discard(1, 8, 4, 0)).await, UNSUPPORTED);
        },
    );
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    device(
        Options::default(),
        |disk| disk.info.read_only = true,
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[100])).await, ERROR);
            assert_eq!(front.ask(direct(2, BlkOp::WriteBarrier, 0, &[100])).await, ERROR);
            assert_eq!(front.ask(discard(3, 0, 8, 0)).await, ERROR);
            let request = indirect(&front.memory, 4, BlkOp::Write, 0, 50, &[whole(100)]);
            assert_eq!(front.ask(request).await, ERROR);
            assert_eq!(front.ask(direct(5, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}
