//! A device tree node being built: the few property types that are needed, over `dtoolkit`'s model.

use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// A node with its properties and children. Names come from this crate, so they are valid.
pub(super) struct Node(DeviceTreeNode);

impl Node {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self(DeviceTreeNode::new_unchecked(name))
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }

    pub(super) fn texts(&mut self, name: &str, values: &[&str]) {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, values));
    }

    pub(super) fn cells(&mut self, name: &str, values: &[u32]) {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, values));
    }

    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }

    /// A property without a value.
    pub(super) fn flag(&mut self, name: &str) {
        self.bytes(name, &[]);
    }

    pub(super) fn child(&mut self, child: Node) {
        self.0.add_child(child.0);
    }

    /// Adds a subtree that was parsed.
    pub(super) fn graft(&mut self, child: DeviceTreeNode) {
        self.0.add_child(child);
    }

    /// The tree whose root this node is, flattened.
    pub(super) fn flatten(self) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        tree.root = self.0;
        tree.to_dtb()
    }
}
