//! `device_tree=`: copies `/passthrough` and `/aliases` of a partial device tree into the guest's.
//!
//! Like Xen, anything else in the file is ignored, and `/passthrough` must be there: without it the key does nothing.

use alloc::string::String;
use core::fmt;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTreeNode;

use super::node::Node;

/// Largest file accepted, as Xen's toolstack bounds a whole guest tree.
const MAX_SIZE: usize = 1 << 20;
/// Deepest nesting accepted; parsing recurses.
const MAX_DEPTH: usize = 32;

/// Why a partial device tree is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialError {
    /// Larger than a device tree for a guest may be.
    TooLarge,
    /// Not a flattened device tree; the text says which part is wrong.
    Malformed(String),
    /// Nodes are nested too deeply.
    TooDeep,
    /// There is no `/passthrough` node.
    NoPassthrough,
}

impl fmt::Display for PartialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "key 'device_tree': the file is larger than 1 MiB"),
            Self::Malformed(what) => {
                write!(f, "key 'device_tree': not a flattened device tree: {what}")
            }
            Self::TooDeep => write!(f, "key 'device_tree': nodes are nested more than {MAX_DEPTH} deep"),
            Self::NoPassthrough => {
                write!(f, "key 'device_tree': the tree has no /passthrough node")
            }
        }
    }
}

impl core::error::Error for PartialError {}

/// Merges the relevant parts of `blob` into `root`.
pub(super) fn merge(blob: &[u8], root: &mut Node) -> Result<(), PartialError> {
    if blob.len() > MAX_SIZE {
        return Err(PartialError::TooLarge);
    }
    let blob = claimed(blob)?;
    check_depth(blob)?;
    let tree = Fdt::new(blob).map_err(|error| PartialError::Malformed(alloc::format!("{error}")))?;
    let passthrough = tree.find_node("/passthrough").ok_or(PartialError::NoPassthrough)?;
    root.graft(DeviceTreeNode::from_node(&passthrough));
    if let Some(aliases) = tree.find_node("/aliases") {
        root.graft(DeviceTreeNode::from_node(&aliases));
    }
    Ok(())
}

/// The big-endian word at `offset`.
fn word(blob: &[u8], offset: usize) -> Option<u32> {
    let bytes = blob.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The bytes that the header's `totalsize` claims; a file may be padded.
fn claimed(blob: &[u8]) -> Result<&[u8], PartialError> {
    let size = word(blob, 4).and_then(|size| usize::try_from(size).ok());
    size.and_then(|size| blob.get(..size))
        .ok_or_else(|| PartialError::Malformed("totalsize is larger than the file".into()))
}

/// Walks the structure block once, counting depth only, since everything after this recurses.
fn check_depth(blob: &[u8]) -> Result<(), PartialError> {
    const BEGIN_NODE: u32 = 1;
    const END_NODE: u32 = 2;
    const PROP: u32 = 3;
    const NOP: u32 = 4;
    let malformed = || PartialError::Malformed("the structure block ends early".into());
    let mut at = word(blob, 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(malformed)?;
    let mut depth = 0usize;
    loop {
        let token = word(blob, at).ok_or_else(malformed)?;
        at = at.saturating_add(4);
        match token {
            BEGIN_NODE => {
                depth += 1;
                let name = blob.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0));
                at = at.saturating_add(name.ok_or_else(malformed)? + 1).next_multiple_of(4);
            }
            END_NODE => depth = depth.saturating_sub(1),
            PROP => {
                let length = word(blob, at).and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
                at = at.saturating_add(8).saturating_add(length).min(blob.len()).next_multiple_of(4);
            }
            NOP => {}
            _ => return Ok(()),
        }
        if depth > MAX_DEPTH {
            return Err(PartialError::TooDeep);
        }
    }
}
