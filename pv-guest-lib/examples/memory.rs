//! Pages, and a heap over some of them (feature `alloc`).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use pv_guest_lib::{Guest, heap, pages, println};

#[pv_guest_lib::main]
async fn main(_guest: Guest) {
    let free = pages::free_pages();
    {
        let Some(page) = pages::Page::new() else { return println!("no page is free") };
        page.shared().u32(0).store(7, Ordering::Relaxed);
        println!("a page at {}, {} pages free", page.ipa(), pages::free_pages());
    }
    println!("it went back: {}", pages::free_pages() == free);
    if heap::init(free / 2).is_ok() {
        let squares: Vec<u64> = (0..1000).map(|number| number * number).collect();
        println!("the last of {} squares is {:?}", squares.len(), squares.last());
    }
}
