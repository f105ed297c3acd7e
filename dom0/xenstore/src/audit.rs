//! The tree's own rules, checked: for CONTROL `check`, and after each step of the property tests.

use alloc::collections::BTreeMap;

use hypercall_abi::ids::DomId;

use crate::ids::NodeId;
use crate::tree::{Node, Tree, Usage};

impl Tree {
    /// Counts the nodes, or names the rule that is broken.
    pub(crate) fn audit(&self) -> Result<usize, &'static str> {
        let used = self.select(|_| true);
        let mut reached = self.subtree(NodeId::ROOT).len();
        for special in [NodeId::INTRODUCE, NodeId::RELEASE] {
            self.get(special).ok_or("a special watch has lost its node")?;
            reached += 1;
        }
        if reached != used.len() {
            return Err("a node cannot be reached from the root");
        }
        let mut usage: BTreeMap<DomId, Usage> = BTreeMap::new();
        for &id in &used {
            let node = self.get(id).ok_or("a used slot is empty")?;
            self.audit_children(id, node)?;
            usage.entry(node.perms.owner).or_default().nodes += 1;
            for grant in &node.perms.granted {
                usage.entry(grant.domid).or_default().grants += 1;
            }
        }
        usage.remove(&DomId::DOM0);
        if usage.iter().any(|(&domid, &counted)| self.usage(domid) != counted) {
            return Err("a domain's usage is miscounted");
        }
        if self.users() != usage.len() {
            return Err("a usage record is left of a domain that has nothing");
        }
        Ok(used.len())
    }

    fn audit_children(&self, id: NodeId, node: &Node) -> Result<(), &'static str> {
        let mut bytes = 0;
        for (name, child) in node.children.iter() {
            let child = self.get(child).ok_or("a child does not exist")?;
            if child.parent != id || *child.name != *name {
                return Err("a child is not its parent's");
            }
            bytes += name.len() + 1;
        }
        if bytes == node.children_bytes { Ok(()) } else { Err("a list of children is mismeasured") }
    }
}
