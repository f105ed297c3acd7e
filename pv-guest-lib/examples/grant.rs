//! Grants: a page that another domain may use for as long as this one keeps the value. The reference is what a peer
//! is told, through the store as a rule.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::grant::{Access, GrantedPage};
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), XenError> {
    let peer = DomId(guest.arguments().parsed("peer", 0));
    let page = GrantedPage::new(peer, Access::ReadOnly)?;
    // Others may read at any time, so there are no references to the page, only views.
    page.shared().write_bytes(0, b"for you to read");
    println!("domain {peer} may read the page at {} by reference {}", page.ipa(), page.gref());
    Ok(())
}
