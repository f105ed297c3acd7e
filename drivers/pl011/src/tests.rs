//! The driver over registers that are plain memory.

use std::pin::pin;
use std::task::{Context, Poll};

use super::*;
use zerocopy::transmute_mut;

const DR: usize = 0x00;
const FR: usize = 0x18;
const IMSC: usize = 0x38;
const MIS: usize = 0x40;
const TXFF: u32 = 1 << 5;
const RXFE: u32 = 1 << 4;
const TXI: u32 = 1 << 5;
const RXI: u32 = 1 << 4;
const RTI: u32 = 1 << 6;

/// Registers that keep what was written to them.
fn registers(flags: u32) -> [u32; 1024] {
    let mut regs = [0; 1024];
    regs[FR / 4] = flags;
    regs
}

fn with_uart<T>(regs: &mut [u32; 1024], test: impl FnOnce(&Pl011<'_>) -> T) -> T {
    let pointer = UniqueMmioPointer::from(transmute_mut!(regs));
    test(&Pl011::new(pointer, None).unwrap())
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_start_without_a_line_only_enables_the_receive_interrupts() {
    let mut regs = registers(RXFE);
    with_uart(&mut regs, |_| ());
    assert_eq!(regs[IMSC / 4], RXI | RTI);
    assert_eq!(regs[0x30 / 4], 0, "the control register was not touched");
}

#[test]
fn a_full_input_buffer_leaves_the_rest_to_the_device() {
    // The fake never says that it is empty, as a sender that does not stop.
    let mut regs = registers(0);
    regs[DR / 4] = u32::from(b'x');
    regs[MIS / 4] = RXI;
    with_uart(&mut regs, |uart| {
        uart.on_interrupt();
        assert_eq!(uart.input.borrow().len(), INPUT_BOUND);
        assert!(!uart.uart.borrow().interrupt_masks().intersects(RECEIVE));
        let mut buffer = [0; 8];
        assert_eq!(poll_once((&*uart).read(&mut buffer)), Poll::Ready(Ok(8)));
        assert_eq!(buffer, [b'x'; 8]);
        assert!(uart.uart.borrow().interrupt_masks().contains(RECEIVE));
    });
}

#[test]
fn a_writer_waits_for_room_and_is_told_of_it() {
    let mut regs = registers(TXFF | RXFE);
    regs[MIS / 4] = TXI;
    with_uart(&mut regs, |uart| {
        assert_eq!(poll_once((&*uart).write(b"hello")), Poll::Pending);
        assert!(uart.uart.borrow().interrupt_masks().contains(Interrupts::TXI));
        assert!(uart.writer.borrow().is_some());
        uart.on_interrupt();
        assert!(uart.writer.borrow().is_none());
        assert!(!uart.uart.borrow().interrupt_masks().contains(Interrupts::TXI));
    });
    assert_eq!(regs[DR / 4], 0, "nothing was written to a full device");
}

#[test]
fn an_empty_device_keeps_the_reader_waiting() {
    let mut regs = registers(RXFE);
    with_uart(&mut regs, |uart| {
        assert_eq!(poll_once((&*uart).read(&mut [0; 4])), Poll::Pending);
        assert_eq!(poll_once((&*uart).read(&mut [])), Poll::Ready(Ok(0)));
    });
}
