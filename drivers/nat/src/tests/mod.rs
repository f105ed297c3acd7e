//! Translation of single packets, and routers between bridges that note what they hear.

mod flood;
mod frames;
mod routing;
mod translation;

use core::net::Ipv4Addr;

use crate::{Inside, Nat};

const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const INSIDE: Inside = Inside { host: HOST, mask: 0xFFFF_FF00 };

fn nat() -> Nat {
    let mut nat = Nat::new(INSIDE, 0x1234_5678_9ABC_DEF1);
    nat.set_outside(Some(OUTSIDE));
    nat
}
