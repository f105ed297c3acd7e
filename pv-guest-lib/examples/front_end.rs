//! XenBus: the front end of a protocol of your own, whose device the tool stack calls `vmy`. The block and network
//! drivers are made this way.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::abi::xenbus::XenbusState;
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::grant::{Access, GrantedPage};
use pv_guest_lib::xenbus::{self, FrontEnd};
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), xenbus::HandshakeError> {
    let store = guest.store();
    let devices = xenbus::devices(&store, "vmy").await?;
    let Some(path) = devices.first() else {
        println!("this domain has no such device");
        return Ok(());
    };
    let mut front = FrontEnd::begin(&store, path).await?;
    let backend = front.device().backend_id();
    let (Ok(ring), Ok(channel)) = (GrantedPage::new(backend, Access::ReadWrite), EventChannel::alloc_unbound(backend))
    else {
        println!("no page or no port is free");
        return Ok(());
    };
    front.device().publish("ring-ref", u64::from(ring.gref().raw())).await?;
    front.device().publish("event-channel", u64::from(channel.port().raw())).await?;
    front.connect(XenbusState::Initialised).await?;
    println!("{path} is connected");
    // Beside this, the ring is served; its pages are ours again when the other side has closed.
    front.gone().await?;
    front.close().await?;
    Ok(())
}
