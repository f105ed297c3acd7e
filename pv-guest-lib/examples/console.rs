//! The console, three ways: `println!`, the `log` crate, and the traits of `embedded-io`. Says what is typed until
//! a line is empty.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embedded_io_async::{Read, Write};
use pv_guest_lib::console::{Input, Output};
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(_guest: Guest) {
    log::info!("log goes to the console as well");
    let Some(mut input) = Input::open() else { return println!("this domain has no console ring") };
    let mut line = heapless::Vec::<u8, 80>::new();
    loop {
        let mut byte = [0];
        // The console's errors are Infallible.
        let _ = Read::read(&mut input, &mut byte).await;
        let [byte] = byte;
        if byte != b'\r' && byte != b'\n' {
            let _ = line.push(byte);
            continue;
        }
        if line.is_empty() {
            return;
        }
        let _ = Output.write_all(b"you said: ").await;
        let _ = Output.write_all(&line).await;
        println!();
        line.clear();
    }
}
