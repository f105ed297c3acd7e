//! An attacker beside a victim.

use hypercall_abi::ids::DomId;
use hypercall_abi::xs_wire::XsOp;
use xenstore::ConnId;

use super::{Message, World};

/// A world with a victim, whose attacker must leave no trace.
pub struct Scene {
    pub world: World,
    pub victim: ConnId,
    pub attacker: ConnId,
    nodes: usize,
}

impl Scene {
    pub fn new() -> Self {
        let mut world = World::new();
        let victim = world.guest(1);
        world.write(victim, "data", "precious").unwrap();
        let nodes = world.check();
        let attacker = world.guest(2);
        Self { world, victim, attacker, nodes }
    }

    /// The victim is served and unharmed; after the attacker's end the node count is as before.
    pub fn check(mut self) {
        self.world.check();
        let reply = self.world.reply_to(self.victim, XsOp::Read, b"data\0");
        assert_eq!(reply.text(), "precious");
        self.world.store.domain_died(DomId(2));
        assert_eq!(self.world.check(), self.nodes);
    }

    pub fn flood(&mut self, request: impl Fn(usize) -> Vec<u8>) -> (usize, String) {
        for count in 0..100_000 {
            let replies = self.world.receive_all(self.attacker, &request(count));
            if let Some(error) = replies.iter().find(|reply| reply.op == XsOp::Error) {
                return (count, error.text().trim_end_matches('\0').to_owned());
            }
        }
        panic!("no limit was met");
    }
}

impl World {
    pub fn receive_all(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<Message> {
        assert_eq!(self.store.input(conn, bytes), Ok(bytes.len()));
        self.receive(conn)
    }
}
