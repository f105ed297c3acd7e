//! Event channels, by the numbers of their ports.

use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::abi::ids::{DomId, Port};
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::executor::block_on;
use pv_guest_lib::hypercall;

use crate::errors::{Number, status};

/// The number of a port that C closes itself.
fn opened(channel: Result<EventChannel, XenError>) -> i64 {
    match channel {
        Ok(channel) => {
            let port = channel.port();
            core::mem::forget(channel);
            i64::from(port.0)
        }
        Err(error) => error.number(),
    }
}

/// Allocates a port that the domain `remote` may bind to; returns its number.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_listen(remote: u16) -> i64 {
    opened(EventChannel::alloc_unbound(DomId(remote)))
}

/// Connects to a port that the domain `remote` has allocated for this one; returns the number of the port here.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_connect(remote: u16, port: u32) -> i64 {
    opened(EventChannel::bind_interdomain(DomId(remote), Port(port)))
}

/// Allocates a port that the domain sends to itself; returns its number.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_loop() -> i64 {
    opened(EventChannel::bind_ipi())
}

/// Notifies the other end.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_send(port: u32) -> i64 {
    status(hypercall::evtchn_send(Port(port)))
}

/// Waits for a notification that came since the last wait ended. One wait for a port at a time.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_wait(port: u32) {
    block_on(EventChannel::given(Port(port)).notified());
}

/// Closes a port.
#[unsafe(no_mangle)]
pub extern "C" fn pv_event_close(port: u32) -> i64 {
    status(hypercall::evtchn_close(Port(port)))
}
