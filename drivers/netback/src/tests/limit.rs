//! Guests that send more than they may.

use driver_api::DmaMemory;
use driver_api::net::{Frame, Offload, PageRef, Piece, Port, Refused};
use embassy_time::{Duration, Instant};

use super::Sink;
use crate::limit::{Credit, Limit, Limited};

const INTERVAL: Duration = Duration::from_millis(50);

#[test]
fn a_guest_sends_what_its_limit_allows_and_no_more_over_time() {
    for (bytes, len) in [(62_500, 1514), (62_500, 60), (500, 65_000), (1, 14)] {
        let mut now = Instant::from_secs(7);
        let mut credit = Credit::new(Limit { bytes, interval: INTERVAL }, now);
        let mut burst = |now: Instant| {
            let mut sent = 0;
            while credit.at(now).is_ok() {
                credit.spend(len);
                sent += u64::from(len);
            }
            assert!(credit.at(now).is_err_and(|next| next > now && next <= now + INTERVAL));
            sent
        };
        let mut sent = 0;
        for _ in 0..2_000 {
            sent += burst(now);
            // Whoever asks in between changes nothing.
            burst(now + INTERVAL / 3);
            now += INTERVAL;
        }
        let most = bytes * 2_000;
        assert!(sent <= most + u64::from(len), "{sent} bytes were sent of {most}");
        assert!(sent + u64::from(len) >= most, "only {sent} bytes were sent of {most}");
        now += INTERVAL * 1_000_000;
        let late = burst(now);
        assert!(late < bytes + u64::from(len), "silence earned {late} bytes");
    }
}

fn put(wire: &impl Port, bytes: &[Piece], len: u32) -> Result<(), Refused> {
    wire.put(&Frame { head: &[], pieces: bytes, len, offload: Offload::default(), source: 0 })
}

#[test]
fn what_the_wire_refuses_costs_no_credit_and_what_it_takes_does() {
    let machine = driver_api::fake::Machine::new();
    let (sink, memory) = (Sink::new(&machine), machine.own(100));
    let page = PageRef::Own(memory.bus_addr());
    let piece = [Piece { page, offset: 0, len: 60 }];
    // So long an interval that no other test's clock reaches its end.
    let limit = Limit { bytes: 100, interval: Duration::from_secs(1_000_000) };
    let wire = Limited::new(&sink, Some(limit));
    sink.room.set(0);
    assert!((0..10).all(|_| put(&wire, &piece, 60) == Err(Refused::Full)));
    sink.room.set(10);
    let taken = (0..10).take_while(|_| put(&wire, &piece, 60).is_ok()).count();
    assert_eq!((taken, sink.room.get()), (2, 8));
    let free = Limited::new(&sink, None);
    assert_eq!((0..10).take_while(|_| put(&free, &piece, 60).is_ok()).count(), 8);
}
