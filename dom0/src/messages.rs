//! Messages of the microkernel and of all domains' `console_io`, shown on the terminal as they come.

use alloc::rc::Rc;
use alloc::string::String;

use hypercall_abi::evtchn::Virq;
use pv_guest_lib::control;
use pv_guest_lib::evtchn::EventChannel;

use crate::terminal::Terminal;

/// Shows messages from now on; those from before the start are already on the serial line. Never completes.
pub async fn show(terminal: Rc<Terminal>) {
    // Where the log ends now: a position beyond the end comes back as the end.
    let mut position = control::console_read(u64::MAX, &mut [0]).map_or(0, |(end, _)| end);
    let ready = match EventChannel::bind_virq(Virq::ConRing) {
        Ok(channel) => channel,
        Err(error) => {
            terminal.interject(&alloc::format!("messages of the hypervisor cannot be followed: {error}\n")).await;
            return;
        }
    };
    let mut text = String::new();
    let mut buffer = [0; 512];
    loop {
        match control::console_read(position, &mut buffer) {
            Ok((next, count)) if count > 0 => {
                position = next;
                text.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
                if let Some(end) = text.rfind('\n') {
                    let rest = text.split_off(end + 1);
                    terminal.interject(&text).await;
                    text = rest;
                }
            }
            Ok(_) | Err(_) => ready.notified().await,
        }
    }
}
