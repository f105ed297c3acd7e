//! A store with a toolstack and guests, and a client that speaks bytes.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod scene;

use hypercall_abi::ids::{DomId, Gfn, Port};
use hypercall_abi::xs_wire::{Header, XsOp};
use xenstore::{Action, ConnId, ConnKind, Error, Perms, Quotas, Reply, Request, Store, TxId};
use zerocopy::{FromBytes, IntoBytes};

/// A store, and Dom0's connection to it.
pub struct World {
    pub store: Store,
    pub dom0: ConnId,
}

/// A message as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub op: XsOp,
    pub req_id: u32,
    pub tx_id: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

pub fn perms(entries: &str) -> Perms {
    Perms::parse(entries.split(' ')).unwrap()
}

pub fn header(op: u32, req_id: u32, tx_id: u32, len: u32) -> Vec<u8> {
    Header { op, req_id, tx_id, len }.as_bytes().to_vec()
}

pub fn message(op: XsOp, req_id: u32, tx: TxId, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(op.raw(), req_id, tx.raw(), payload.len().try_into().unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

impl World {
    pub fn new() -> Self {
        Self::with(Quotas::default())
    }

    pub fn with(quotas: Quotas) -> Self {
        let mut store = Store::new(quotas);
        let dom0 = store.connect(ConnKind::Local).unwrap();
        Self { store, dom0 }
    }

    /// Introduces a domain that owns its home, and connects it.
    pub fn guest(&mut self, domid: u16) -> ConnId {
        let home = xenstore::home(DomId(domid));
        self.write(self.dom0, &home, "").unwrap();
        self.set_perms(self.dom0, &home, &format!("n{domid}")).unwrap();
        self.introduce(domid).unwrap();
        self.connect(domid)
    }

    pub fn introduce(&mut self, domid: u16) -> Result<Reply, Error> {
        let introduce = Request::Introduce { domid: DomId(domid), gfn: Gfn(0x39000), port: Port(1) };
        self.ask(self.dom0, introduce)
    }

    pub fn connect(&mut self, domid: u16) -> ConnId {
        let domid = DomId(domid);
        self.store.connect(ConnKind::Domain { domid }).unwrap()
    }

    pub fn ask(&mut self, conn: ConnId, request: Request<'_>) -> Result<Reply, Error> {
        self.store.request(conn, TxId::NONE, request)
    }

    pub fn read(&mut self, conn: ConnId, path: &str) -> Result<String, Error> {
        self.read_in(conn, TxId::NONE, path)
    }

    pub fn read_in(&mut self, conn: ConnId, tx: TxId, path: &str) -> Result<String, Error> {
        match self.store.request(conn, tx, Request::Read { path })? {
            Reply::Value(value) => Ok(String::from_utf8(value.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub fn write(&mut self, conn: ConnId, path: &str, value: &str) -> Result<Reply, Error> {
        self.write_in(conn, TxId::NONE, path, value)
    }

    pub fn write_in(&mut self, conn: ConnId, tx: TxId, path: &str, value: &str) -> Result<Reply, Error> {
        let value = value.as_bytes();
        self.store.request(conn, tx, Request::Write { path, value })
    }

    pub fn mkdir(&mut self, conn: ConnId, path: &str) -> Result<Reply, Error> {
        self.ask(conn, Request::Mkdir { path })
    }

    pub fn rm(&mut self, conn: ConnId, path: &str) -> Result<Reply, Error> {
        self.ask(conn, Request::Rm { path })
    }

    pub fn list(&mut self, conn: ConnId, path: &str) -> Result<Vec<String>, Error> {
        self.list_in(conn, TxId::NONE, path)
    }

    pub fn list_in(&mut self, conn: ConnId, tx: TxId, path: &str) -> Result<Vec<String>, Error> {
        match self.store.request(conn, tx, Request::Directory { path })? {
            Reply::Names(names) => Ok(names.iter().map(|name| name.to_string()).collect()),
            other => panic!("{other:?}"),
        }
    }

    pub fn set_perms(&mut self, conn: ConnId, path: &str, entries: &str) -> Result<Reply, Error> {
        let perms = &perms(entries);
        self.ask(conn, Request::SetPerms { path, perms })
    }

    pub fn get_perms(&mut self, conn: ConnId, path: &str) -> Result<String, Error> {
        match self.ask(conn, Request::GetPerms { path })? {
            Reply::Perms(perms) => {
                let mut entries = Vec::new();
                perms.for_each_entry(|entry| entries.push(entry.to_owned()));
                Ok(entries.join(" "))
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn watch(&mut self, conn: ConnId, path: &str, token: &str) -> Result<Reply, Error> {
        let token = token.as_bytes();
        self.ask(conn, Request::Watch { path, token })
    }

    /// Watches, and takes the event that setting the watch fires.
    pub fn watch_quietly(&mut self, conn: ConnId, path: &str, token: &str) {
        self.watch(conn, path, token).unwrap();
        assert_eq!(self.events(conn), [format!("{path} {token}")]);
    }

    pub fn unwatch(&mut self, conn: ConnId, path: &str, token: &str) -> Result<Reply, Error> {
        let token = token.as_bytes();
        self.ask(conn, Request::Unwatch { path, token })
    }

    /// The unread events, as "path token".
    pub fn events(&mut self, conn: ConnId) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.store.take_event(conn) {
            let token = String::from_utf8(event.token.to_vec()).unwrap();
            events.push(format!("{} {token}", event.path));
        }
        events
    }

    pub fn start(&mut self, conn: ConnId) -> TxId {
        match self.ask(conn, Request::TransactionStart).unwrap() {
            Reply::Transaction(tx) => tx,
            other => panic!("{other:?}"),
        }
    }

    pub fn commit(&mut self, conn: ConnId, tx: TxId) -> Result<Reply, Error> {
        self.store.request(conn, tx, Request::TransactionEnd { commit: true })
    }

    pub fn abort(&mut self, conn: ConnId, tx: TxId) -> Result<Reply, Error> {
        self.store.request(conn, tx, Request::TransactionEnd { commit: false })
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.store.take_action()).collect()
    }

    /// Fails when one of the tree's own rules is broken; else the number of nodes.
    pub fn check(&mut self) -> usize {
        match self.ask(self.dom0, Request::Control { command: "check" }) {
            Ok(Reply::Text(text)) => {
                let count = text.strip_prefix("OK, ").and_then(|rest| rest.strip_suffix(" nodes"));
                count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends one message whole and returns all that can be read then.
    pub fn send(&mut self, conn: ConnId, op: XsOp, payload: &[u8]) -> Vec<Message> {
        self.send_in(conn, op, TxId::NONE, payload)
    }

    pub fn send_in(&mut self, conn: ConnId, op: XsOp, tx: TxId, payload: &[u8]) -> Vec<Message> {
        let bytes = message(op, 77, tx, payload);
        assert_eq!(self.store.input(conn, &bytes), Ok(bytes.len()));
        self.receive(conn)
    }

    /// The payload of the reply to a message that gets exactly one.
    pub fn reply_to(&mut self, conn: ConnId, op: XsOp, payload: &[u8]) -> Message {
        let mut messages = self.send(conn, op, payload);
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    /// Reads everything that a client can read, in small portions.
    pub fn receive(&mut self, conn: ConnId) -> Vec<Message> {
        let mut bytes = Vec::new();
        loop {
            let portion = self.store.output(conn);
            let count = portion.len().min(13);
            if count == 0 {
                return parse(&bytes);
            }
            bytes.extend_from_slice(&portion[..count]);
            self.store.consume(conn, count);
        }
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = Header::read_from_prefix(bytes).unwrap();
        let (payload, rest) = rest.split_at(header.len as usize);
        assert!(payload.len() <= hypercall_abi::xs_wire::PAYLOAD_MAX);
        messages.push(Message {
            op: XsOp::from_raw(header.op).unwrap(),
            req_id: header.req_id,
            tx_id: header.tx_id,
            payload: payload.to_vec(),
        });
        bytes = rest;
    }
    messages
}
