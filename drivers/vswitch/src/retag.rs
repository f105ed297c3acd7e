//! Frames that lose or get a VLAN tag on their way through a bridge.
//!
//! Their bytes stay where they are; only the list of pieces and the private head change. The offsets of protocols inside
//! shift with them, and whoever completes such a frame ([`adapt`](crate::adapt)) finds them anew.

use alloc::vec::Vec;

use driver_api::net::{Frame, HEAD, Piece};

use crate::ethernet::{TAG, TAGGED};

/// Bytes in front of the tag: the two addresses.
const ADDRESSES: usize = 12;

/// A frame with another front.
pub(crate) struct Retagged {
    head: [u8; HEAD + TAG],
    have: usize,
    pieces: Vec<Piece>,
    len: u32,
}

impl Retagged {
    /// The frame without the tag that it has.
    pub(crate) fn without_tag(frame: &Frame<'_>) -> Option<Self> {
        Self::new(frame, &[], ADDRESSES + TAG, None)
    }

    /// The frame with the tag of `vlan`, whose bytes also lie in `tag`.
    pub(crate) fn with_tag(frame: &Frame<'_>, vlan: u16, tag: Piece) -> Option<Self> {
        Self::new(frame, &tag_bytes(vlan), ADDRESSES, Some(tag))
    }

    /// The addresses, `between`, and what lies from `behind` on.
    fn new(frame: &Frame<'_>, between: &[u8], behind: usize, tag: Option<Piece>) -> Option<Self> {
        let parts = [frame.head.get(..ADDRESSES)?, between, frame.head.get(behind..)?];
        let mut head = [0; HEAD + TAG];
        let mut have = 0;
        for part in parts {
            head.get_mut(have..have + part.len())?.copy_from_slice(part);
            have += part.len();
        }
        let mut pieces = Vec::with_capacity(frame.pieces.len() + 2);
        range(frame.pieces, 0, ADDRESSES, &mut pieces)?;
        pieces.extend(tag);
        range(frame.pieces, behind, usize::MAX, &mut pieces)?;
        let len = pieces.iter().map(|piece| u32::from(piece.len)).sum();
        Some(Retagged { head, have: have.min(HEAD), pieces, len })
    }

    /// The frame; what else is known of it is as `given`.
    pub(crate) fn frame<'a>(&'a self, given: &Frame<'_>) -> Frame<'a> {
        Frame {
            head: self.head.get(..self.have).unwrap_or_default(),
            pieces: &self.pieces,
            len: self.len,
            offload: given.offload,
            source: given.source,
        }
    }
}

/// The bytes of a VLAN's tag, with the lowest priority.
pub(crate) fn tag_bytes(vlan: u16) -> [u8; TAG] {
    let ([a, b], [c, d]) = (TAGGED, vlan.to_be_bytes());
    [a, b, c, d]
}

/// Appends what lies in the bytes from `start` to `end` of a list of pieces.
fn range(from: &[Piece], start: usize, end: usize, into: &mut Vec<Piece>) -> Option<()> {
    let mut at = 0;
    for piece in from {
        let len = usize::from(piece.len);
        let (first, last) = (start.clamp(at, at + len) - at, end.clamp(at, at + len) - at);
        if first < last {
            let (skip, len) = (u16::try_from(first).ok()?, u16::try_from(last - first).ok()?);
            into.push(Piece { page: piece.page, offset: piece.offset + skip, len });
        }
        at += len;
    }
    Some(())
}
