//! What its owner has dropped and the store does not know of yet: a drop cannot wait for an answer, so a task ends
//! watches and transactions one after the other.

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::channel::Channel;

use super::watch::Token;
use super::{Path, XenStore};

/// Things that can wait to be ended. What finds no room stays open in the store, at the domain's own cost.
const WAITING: usize = 8;

/// Something to end.
#[expect(clippy::large_enum_variant, reason = "there is no heap that the larger one could be on")]
pub(super) enum Abandoned {
    /// Inside of it, the connection speaks of nothing else.
    Transaction(XenStore),
    /// The watched node, and the watch's name.
    Watch(Path, Token),
}

static ABANDONED: Channel<CriticalSectionRawMutex, Abandoned, WAITING> = Channel::new();

/// Leaves something to the task.
pub(super) fn leave(what: Abandoned) {
    if ABANDONED.try_send(what).is_err() {
        log::warn!("XenStore: more was dropped at once than can be ended; it stays open");
    }
}

#[embassy_executor::task]
pub(super) async fn end_each() {
    let store = XenStore { transaction: 0 };
    loop {
        // A refusal means that the store knows nothing of it, which is what is wanted.
        let _ = match ABANDONED.receive().await {
            Abandoned::Transaction(inside) => inside.abort_transaction().await,
            Abandoned::Watch(path, token) => store.end_watch(&path, &token).await,
        };
    }
}
