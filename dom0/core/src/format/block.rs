//! `xl block-list`.

use core::fmt::{self, Write};

/// A line of `xl block-list`. What XenStore does not hold (yet) is -1, as `xl` prints it.
#[derive(Debug, Clone, Copy)]
pub struct BlockRow<'a> {
    /// The virtual device's number.
    pub vdev: u32,
    /// The domain it belongs to.
    pub domid: u16,
    /// The front end's XenBus state.
    pub state: i32,
    /// The front end's event channel.
    pub event_channel: i32,
    /// The front end's ring.
    pub ring_ref: i32,
    /// The back end's directory.
    pub backend: &'a str,
}

/// Writes heading and lines.
///
/// # Errors
/// Those of `out`.
pub fn block_list<'a>(out: &mut impl Write, rows: impl IntoIterator<Item = BlockRow<'a>>) -> fmt::Result {
    writeln!(
        out,
        "{:<5} {:<3} {:<6} {:<5} {:<6} {:<8} {:<30}",
        "Vdev", "BE", "handle", "state", "evt-ch", "ring-ref", "BE-path"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:<5} {:<3} {:<6} {:<5} {:<6} {:<8} {:<30}",
            row.vdev, 0, row.domid, row.state, row.event_channel, row.ring_ref, row.backend
        )?;
    }
    Ok(())
}
