//! XenStore: nodes, a transaction, and a watch as a stream.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use futures_util::StreamExt;
use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::xenstore::XsError;
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), XsError> {
    let store = guest.store();
    store.write_number("data/visits", 0).await?;
    let mut watch = store.watch("data/visits").await?;
    // A watch fires once when it is set.
    watch.next().await;
    loop {
        let inside = store.begin().await?;
        let visits = inside.read_number::<u64>("data/visits").await?;
        inside.write_number("data/visits", visits + 1).await?;
        match inside.commit().await {
            // Somebody else has written meanwhile.
            Err(XsError::Refused(XenError::Again)) => {}
            outcome => break outcome?,
        }
    }
    watch.next().await;
    println!("{} visits", store.read_number::<u64>("data/visits").await?);
    Ok(())
}
