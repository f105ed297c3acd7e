//! Random reads and writes over the ring leave a disk, and buffers, that equal those of a plain array.

use hypercall_abi::blkif::{BlkOp, Request, Segment};
use hypercall_abi::ids::GrantRef;
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::front::{direct, indirect};
use super::memory::PAGES;
use super::world::{Options, device};
use crate::Limits;

/// Requests that are in flight together, each with a region of the disk and pages of its own.
const LANES: u32 = 8;
const LANE_SECTORS: u64 = 256;
const LANE_PAGES: u32 = 40;
const FIRST_PAGE: u32 = 16;

const _: () = assert!(FIRST_PAGE + LANES * LANE_PAGES <= 512 && PAGES == 512);

#[derive(Clone, Debug)]
struct Job {
    write: bool,
    start: u64,
    /// First and last sector of each page.
    segments: Vec<(u8, u8)>,
    indirect: bool,
    fill: u8,
}

fn job() -> impl Strategy<Value = Job> {
    let segment = (0u8..8, 0u8..8).prop_map(|(a, b)| (a.min(b), a.max(b)));
    (any::<bool>(), 0u64..60, proptest::collection::vec(segment, 1..24), any::<bool>(), any::<u8>()).prop_map(
        |(write, start, segments, indirect, fill)| Job {
            write,
            start,
            indirect: indirect || segments.len() > 11,
            segments,
            fill,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn disk_and_buffers_equal_the_model(
        rounds in proptest::collection::vec(proptest::collection::vec(job(), 1..=LANES as usize), 1..12),
        persistent in any::<bool>(),
        cache in 0u16..80,
        in_flight in 1usize..10,
        delays in proptest::collection::vec(0u32..6, 1..9),
    ) {
        let mut disk_model = vec![0u8; usize::try_from(u64::from(LANES) * LANE_SECTORS).unwrap() * 512];
        let options = Options {
            persistent,
            sectors: u64::from(LANES) * LANE_SECTORS,
            limits: Limits { in_flight, persistent_grants: cache, ..Limits::default() },
            ..Options::default()
        };
        let outcome = device(options, |disk| disk.delays = delays, async |front, _| {
            for round in &rounds {
                for (lane, job) in (0u32..).zip(round) {
                    front.put(prepare(&front.memory, lane, job, &mut disk_model).as_bytes());
                }
                front.push();
                for _ in round {
                    assert_eq!(front.response().await.status, 0);
                }
                for (lane, job) in (0u32..).zip(round).filter(|(_, job)| !job.write) {
                    check_read(&front.memory, lane, job, &disk_model);
                }
            }
        });
        prop_assert!(*outcome.disk.bytes.borrow() == disk_model);
    }
}

fn page_of(lane: u32, index: usize) -> u32 {
    // Every second page, so that some neighbours join and some do not.
    FIRST_PAGE + lane * LANE_PAGES + u32::try_from(index + index / 3).unwrap()
}

fn prepare(memory: &super::memory::Memory, lane: u32, job: &Job, model: &mut [u8]) -> Request {
    let sector = u64::from(lane) * LANE_SECTORS + job.start;
    let mut at = usize::try_from(sector).unwrap() * 512;
    for (index, &(first, last)) in job.segments.iter().enumerate() {
        let (offset, len) = (usize::from(first) * 512, usize::from(last - first + 1) * 512);
        memory.write(page_of(lane, index), 0, &[0xee; 4096]);
        if job.write {
            let data: Vec<u8> = (0..len).map(|n| job.fill.wrapping_add((n ^ index << 3).to_le_bytes()[0])).collect();
            memory.write(page_of(lane, index), offset, &data);
            model[at..at + len].copy_from_slice(&data);
        }
        at += len;
    }
    let operation = if job.write { BlkOp::Write } else { BlkOp::Read };
    let segments: Vec<Segment> = (0..)
        .zip(&job.segments)
        .map(|(index, &(first_sect, last_sect))| Segment {
            gref: GrantRef(page_of(lane, index)),
            first_sect,
            last_sect,
            pad: 0,
        })
        .collect();
    if job.indirect {
        return indirect(memory, lane.into(), operation, sector, 1 + lane, &segments);
    }
    let mut request = direct(lane.into(), operation, sector, &[]);
    request.nr_segments = u8::try_from(segments.len()).unwrap();
    request.seg[..segments.len()].copy_from_slice(&segments);
    request
}

/// A read filled exactly its sectors and nothing beside them.
fn check_read(memory: &super::memory::Memory, lane: u32, job: &Job, model: &[u8]) {
    let sector = u64::from(lane) * LANE_SECTORS + job.start;
    let mut at = usize::try_from(sector).unwrap() * 512;
    for (index, &(first, last)) in job.segments.iter().enumerate() {
        let (offset, len) = (usize::from(first) * 512, usize::from(last - first + 1) * 512);
        let page = memory.read(page_of(lane, index), 0, 4096);
        assert!(page[..offset].iter().all(|&byte| byte == 0xee));
        assert!(page[offset..offset + len] == model[at..at + len]);
        assert!(page[offset + len..].iter().all(|&byte| byte == 0xee));
        at += len;
    }
}
