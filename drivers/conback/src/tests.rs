//! The pump against a guest's side of the page, honest and hostile.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use driver_api::{EventPort, SharedPage};
use hypercall_abi::xencons::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};
use proptest::prelude::*;

use super::*;

/// The page, as bytes in cells that both sides hold.
#[derive(Clone)]
struct Page(Rc<[Cell<u8>]>);

impl Page {
    fn new() -> Self {
        Self(vec![Cell::new(0); 4096].into())
    }

    /// The guest prints as much as fits, and says how much that is.
    fn print(&self, bytes: &[u8]) -> usize {
        let (prod, cons) = (self.load_u32(OUT_PROD), self.load_u32(OUT_CONS));
        let room = OUT_SIZE - prod.wrapping_sub(cons) as usize;
        let count = bytes.len().min(room);
        for (n, &byte) in (0u32..).zip(&bytes[..count]) {
            self.0[OUT + prod.wrapping_add(n) as usize % OUT_SIZE].set(byte);
        }
        self.store_u32(OUT_PROD, prod.wrapping_add(u32::try_from(count).unwrap()));
        count
    }

    /// The guest reads what was typed.
    fn typed(&self, most: usize) -> Vec<u8> {
        let (prod, cons) = (self.load_u32(IN_PROD), self.load_u32(IN_CONS));
        let count = prod.wrapping_sub(cons).min(u32::try_from(most).unwrap());
        self.store_u32(IN_CONS, cons.wrapping_add(count));
        (0..count).map(|n| self.0[IN + cons.wrapping_add(n) as usize % IN_SIZE].get()).collect()
    }
}

impl SharedPage for Page {
    fn load_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|n| self.0[offset + n].get()))
    }

    fn store_u32(&self, offset: usize, value: u32) {
        for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.0[offset + n].set(byte);
        }
    }

    fn load_u64(&self, _: usize) -> u64 {
        unreachable!("the console has no such field")
    }

    fn store_u64(&self, _: usize, _: u64) {
        unreachable!("the console has no such field")
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        for (n, byte) in into.iter_mut().enumerate() {
            *byte = self.0[offset + n].get();
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (n, &byte) in from.iter().enumerate() {
            self.0[offset + n].set(byte);
        }
    }

    fn full_barrier(&self) {}
}

/// A port that is always ready once after an event, and counts what is sent.
#[derive(Clone, Default)]
struct Port {
    pending: Rc<Cell<bool>>,
    sent: Rc<Cell<u32>>,
}

impl EventPort for Port {
    fn notify(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    fn poll_event(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.pending.replace(false) { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future until it is done or sleeps; the fake port has no waker, so that an event means another call.
fn settle<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    while woken.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
    }
    None
}

fn console(log_bound: usize) -> (Page, Port, Console<Page, Port>) {
    let (page, port) = (Page::new(), Port::default());
    let console = Console::new(page.clone(), port.clone(), Rc::new(Log::new(log_bound)));
    (page, port, console)
}

#[test]
fn output_reaches_the_log_and_the_guest_is_told() {
    let (page, port, console) = console(100);
    page.print(b"Hello");
    let mut run = pin!(console.run());
    assert_eq!(settle(run.as_mut()), None);
    assert_eq!(console.log().snapshot(), b"Hello");
    assert_eq!((page.load_u32(OUT_CONS), port.sent.get()), (5, 1));
    assert_eq!(settle(run.as_mut()), None);
    assert_eq!(port.sent.get(), 1, "no news, no event");
}

#[test]
fn a_guest_never_blocks_on_a_console_that_nobody_watches() {
    let (page, port, console) = console(64);
    let mut run = pin!(console.run());
    for round in 0..100u8 {
        assert_eq!(page.print(&[round; OUT_SIZE]), OUT_SIZE);
        port.pending.set(true);
        assert_eq!(settle(run.as_mut()), None);
    }
    assert_eq!(console.log().snapshot(), [99; 64]);
}

#[test]
fn typing_waits_while_the_guest_does_not_read() {
    let (page, port, console) = console(10);
    let text: Vec<u8> = (0..5000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut run = pin!(console.run());
    let mut write = pin!(console.write(&text));
    let mut read = Vec::new();
    let mut done = false;
    for _ in 0..50 {
        assert_eq!(settle(write.as_mut()), None);
        assert_eq!(settle(run.as_mut()), None);
    }
    assert_eq!(page.load_u32(IN_PROD) as usize, IN_SIZE, "the ring is full and stays so");
    for _ in 0..100 {
        done |= !done && settle(write.as_mut()).is_some();
        port.pending.set(true);
        assert_eq!(settle(run.as_mut()), None);
        read.extend(page.typed(300));
        if read.len() >= text.len() {
            break;
        }
    }
    assert!(done);
    assert_eq!(read[..5000], text);
}

#[test]
fn indices_that_cannot_be_true_end_the_console() {
    for (field, end) in [(OUT_PROD, End::BrokenOutput), (IN_CONS, End::BrokenInput)] {
        for value in [2049u32, 1 << 31, u32::MAX - 5000] {
            let (page, _, console) = console(10);
            page.store_u32(field, value);
            assert_eq!(settle(pin!(console.run())), Some(end), "{value}");
        }
    }
}

#[test]
fn rewriting_our_own_indices_changes_nothing() {
    let (page, port, console) = console(100);
    page.print(b"abc");
    let mut run = pin!(console.run());
    assert_eq!(settle(run.as_mut()), None);
    page.store_u32(OUT_CONS, 0);
    page.store_u32(IN_PROD, 77);
    page.store_u32(OUT_PROD, 6);
    port.pending.set(true);
    assert_eq!(settle(run.as_mut()), None);
    assert_eq!(page.load_u32(OUT_CONS), 6);
    console.try_write(b"x");
    assert_eq!(settle(run.as_mut()), None);
    assert_eq!(page.load_u32(IN_PROD), 1);
}

#[test]
fn indices_go_on_across_their_wrap() {
    let page = Page::new();
    for field in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
        page.store_u32(field, u32::MAX - 1);
    }
    let console = Console::new(page.clone(), Port::default(), Rc::new(Log::new(100)));
    page.print(b"wrapped");
    console.try_write(b"around");
    let mut run = pin!(console.run());
    assert_eq!(settle(run.as_mut()), None);
    assert_eq!(console.log().snapshot(), b"wrapped");
    assert_eq!(page.typed(100), b"around");
}

#[test]
fn a_stopped_console_takes_what_was_printed_last() {
    let (page, _, console) = console(100);
    let mut run = pin!(console.run());
    assert_eq!(settle(run.as_mut()), None);
    page.print(b"Power down.");
    console.stop();
    assert_eq!(settle(run.as_mut()), Some(End::Stopped));
    assert_eq!(console.log().snapshot(), b"Power down.");
}

#[test]
fn readers_follow_at_their_own_pace_and_are_told_what_they_missed() {
    let log = Rc::new(Log::new(8));
    log.append(b"old");
    let (mut first, mut late) = (log.start(), log.tail());
    let mut buffer = [0; 4];
    assert_eq!(first.try_read(&mut buffer), Some(Chunk::Bytes(3)));
    assert_eq!(late.try_read(&mut buffer), None);
    let mut late_buffer = [0; 4];
    let mut waiting = pin!(late.read(&mut late_buffer));
    assert_eq!(settle(waiting.as_mut()), None);
    log.append(b"0123456789");
    assert_eq!(settle(waiting.as_mut()), Some(Chunk::Missed(2)));
    assert_eq!(first.try_read(&mut buffer), Some(Chunk::Missed(2)));
    assert_eq!(first.try_read(&mut buffer), Some(Chunk::Bytes(4)));
    assert_eq!(&buffer, b"2345");
    log.close();
    assert_eq!(first.try_read(&mut buffer), Some(Chunk::Bytes(4)));
    assert_eq!(first.try_read(&mut buffer), Some(Chunk::Closed));
}

proptest! {
    #[test]
    fn whatever_stands_in_the_page_the_pump_ends_or_sleeps(
        fields in proptest::array::uniform4(prop_oneof![0u32..3000, any::<u32>()]),
        typed in 0usize..300,
    ) {
        let (page, port, console) = console(500);
        let mut run = pin!(console.run());
        if settle(run.as_mut()).is_none() {
            for (offset, value) in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD].into_iter().zip(fields) {
                page.store_u32(offset, value);
            }
            console.try_write(&vec![b'k'; typed]);
            port.pending.set(true);
            settle(run.as_mut());
        }
        prop_assert!(console.log().snapshot().len() <= 500);
    }

    #[test]
    fn everything_printed_is_read_in_order(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..20),
    ) {
        let (page, port, console) = console(4096);
        let mut run = pin!(console.run());
        let mut reader = console.log().tail();
        let mut seen = Vec::new();
        for chunk in &chunks {
            let mut rest = chunk.as_slice();
            while !rest.is_empty() {
                rest = &rest[page.print(rest)..];
                port.pending.set(true);
                prop_assert_eq!(settle(run.as_mut()), None);
                let mut buffer = [0; 4096];
                if let Some(Chunk::Bytes(count)) = reader.try_read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..count]);
                }
            }
        }
        prop_assert_eq!(seen, chunks.concat());
    }
}

const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const MASK: u64 = 0x38;
const MASKED: u64 = 0x40;
const CLEAR: u64 = 0x44;
const RX_TIMEOUT: u32 = 1 << 6;
const TX: u32 = 1 << 5;

#[test]
fn the_uart_sends_to_its_log_and_receives_what_is_typed() {
    let uart = Uart::new(Rc::new(Log::new(100)));
    uart.store(DATA, u32::from(b'h'));
    uart.store(DATA, 0xFFFF_FF00 | u32::from(b'i'));
    assert_eq!(uart.log().snapshot(), b"hi");
    assert_eq!((uart.load(FLAGS), uart.load(DATA)), (0x90, 0), "nothing to read, all sent");
    assert_eq!(settle(pin!(uart.write(b"xy"))), Some(()));
    assert_eq!(settle(pin!(uart.changed())), Some(()), "the host is to look at the line");
    assert_eq!(uart.load(FLAGS), 0x80);
    assert_eq!([uart.load(DATA), uart.load(DATA), uart.load(DATA)], [u32::from(b'x'), u32::from(b'y'), 0]);
    assert_eq!(uart.load(FLAGS), 0x90);
}

#[test]
fn the_uarts_line_follows_its_mask_its_bytes_and_what_is_cleared() {
    let uart = Uart::new(Rc::new(Log::new(100)));
    assert!(!uart.line(), "all interrupts are masked at first");
    uart.store(MASK, RX_TIMEOUT);
    assert!(!uart.line());
    assert_eq!(settle(pin!(uart.write(b"x"))), Some(()));
    assert_eq!((uart.line(), uart.load(MASKED)), (true, RX_TIMEOUT));
    uart.store(CLEAR, RX_TIMEOUT);
    assert!(!uart.line());
    assert_eq!(settle(pin!(uart.write(b"y"))), Some(()));
    assert!(uart.line(), "another byte raises it again");
    assert_eq!([uart.load(DATA), uart.load(DATA)].map(|byte| byte != 0), [true, true]);
    assert!(!uart.line());
    uart.store(MASK, u32::MAX);
    assert_eq!((uart.load(MASK), uart.load(MASKED)), (0x7FF, TX), "there is always room to write");
    uart.store(CLEAR, TX);
    assert!(!uart.line());
    uart.store(DATA, 0);
    assert!(uart.line());
}

#[test]
fn who_types_waits_while_the_guest_does_not_read() {
    let uart = Uart::new(Rc::new(Log::new(100)));
    let text = [b'a'; 1030];
    let mut writing = pin!(uart.write(&text));
    assert_eq!(settle(writing.as_mut()), None);
    for _ in 0..6 {
        assert_eq!(settle(writing.as_mut()), None);
        assert_eq!(uart.load(DATA), u32::from(b'a'));
    }
    assert_eq!(settle(writing.as_mut()), Some(()));
}

proptest! {
    #[test]
    fn no_access_of_a_guest_is_the_uarts_end(accesses in proptest::collection::vec((0u64..0x1000, any::<Option<u32>>()), 0..100)) {
        let uart = Uart::new(Rc::new(Log::new(16)));
        for (offset, store) in accesses {
            match store {
                Some(value) => uart.store(offset, value),
                None => prop_assert!(uart.load(offset) <= 0x7FF),
            }
        }
    }
}
