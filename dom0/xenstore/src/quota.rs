//! How much of the store one unprivileged domain may use, so that it can only starve itself (XSA-326 and kin).
//!
//! Dom0 is exempt but for its unread events, which guests cause. The defaults are those of Xen's xenstored where
//! it has the same limit; the bounds on bytes and on events replace its memory quota and its timeout on unread
//! events.

/// Limits per unprivileged domain, where not said otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Nodes owned, wherever they are.
    pub nodes: usize,
    /// Bytes of one node: its value and its permission entries.
    pub node_bytes: usize,
    /// Entries in one node's permissions, the owner's included.
    pub perms: usize,
    /// Watches.
    pub watches: usize,
    /// Open transactions.
    pub transactions: usize,
    /// Nodes read, found absent or changed in one transaction.
    pub transaction_nodes: usize,
    /// Bytes of paths and values that one transaction keeps until its end.
    pub transaction_bytes: usize,
    /// Replies not yet read; when there are as many, no further request is taken.
    pub unread_replies: usize,
    /// Bytes of replies not yet read; as above.
    pub unread_bytes: usize,
    /// Watch events not yet read; beyond them, events of one watch are merged into one.
    pub unread_events: usize,
    /// The same for each connection of Dom0.
    pub unread_events_of_dom0: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            nodes: 1000,
            node_bytes: 2048,
            perms: 5,
            watches: 128,
            transactions: 10,
            transaction_nodes: 1024,
            transaction_bytes: 64 * 1024,
            unread_replies: 20,
            unread_bytes: 32 * 1024,
            unread_events: 256,
            unread_events_of_dom0: 8192,
        }
    }
}
