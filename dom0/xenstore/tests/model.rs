//! Random histories of requests, carried out by the store and by a plain model of it, side by side.

mod common;
mod plain;

use common::World;
use hypercall_abi::ids::DomId;
use plain::{Change, Model, Need, Node, Transaction, Watch, Who};
use proptest::prelude::*;
use std::collections::BTreeSet;
use xenstore::{Access, ConnId, Error, Perms, Reply, Request, TxId};

#[derive(Clone, Debug)]
enum Op {
    Read(String),
    List(String),
    GetPerms(String),
    Change(Change),
    Watch(String, String),
    Unwatch(String, String),
    Start,
    End { commit: bool },
}

#[derive(Clone, Debug)]
struct Step {
    who: Who,
    /// In the requester's transaction, when it has one.
    inside: bool,
    op: Op,
}

fn path() -> impl Strategy<Value = String> {
    let paths = [
        "/a",
        "/a/b",
        "/a/b/c",
        "/local/domain/1",
        "x",
        "/",
        "/a/d",
        "/a-b",
        "/local",
        "/local/domain/2",
        "/local/domain/1/x",
        "/local/domain/2/x/y",
        "x/y",
        "x/y/z",
        "w",
    ];
    // A few paths get most of the traffic, so that steps meet.
    let few = paths.iter().copied().take(5).collect::<Vec<_>>();
    prop_oneof![
        2 => prop::sample::select(few),
        1 => prop::sample::select(paths.to_vec()),
    ]
    .prop_map(String::from)
}

fn change() -> impl Strategy<Value = Change> {
    let access = prop::sample::select(vec![Access::None, Access::Read, Access::Write, Access::Both]);
    prop_oneof![
        4 => (path(), "[a-z]{0,3}").prop_map(|(path, value)| Change::Write(path, value)),
        1 => path().prop_map(Change::Mkdir),
        2 => path().prop_map(Change::Rm),
        2 => (path(), 0..3_u16, access).prop_map(|(path, who, access)| Change::SetPerms(path, who, access)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => path().prop_map(Op::Read),
        3 => path().prop_map(Op::List),
        1 => path().prop_map(Op::GetPerms),
        8 => change().prop_map(Op::Change),
        2 => (path(), "[ab]").prop_map(|(path, token)| Op::Watch(path, token)),
        1 => (path(), "[ab]").prop_map(|(path, token)| Op::Unwatch(path, token)),
        6 => Just(Op::Start),
        4 => prop::bool::weighted(0.9).prop_map(|commit| Op::End { commit }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (0..3_u16, any::<bool>(), op()).prop_map(|(who, inside, op)| Step { who, inside, op })
}

/// The store and its model, with Dom0 and two guests.
struct Pair {
    world: World,
    conns: Vec<ConnId>,
    model: Model,
    open: [Option<(TxId, Transaction)>; 3],
}

fn absolute(who: Who, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/local/domain/{who}/{path}") }
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new();
        let conns = vec![world.dom0, world.guest(1), world.guest(2)];
        world.write(world.dom0, "/a", "").unwrap();
        world.set_perms(world.dom0, "/a", "b0").unwrap();
        let mut model = Model::default();
        for (path, owner, others) in [
            ("/", 0, Access::None),
            ("/local", 0, Access::None),
            ("/local/domain", 0, Access::None),
            ("/local/domain/1", 1, Access::None),
            ("/local/domain/2", 2, Access::None),
            ("/a", 0, Access::Both),
        ] {
            model.tree.insert(path.into(), Node { value: String::new(), owner, others });
        }
        Self { world, conns, model, open: [None, None, None] }
    }

    /// One step on both sides: the same outcome, the same events.
    fn step(&mut self, step: &Step) {
        let who = step.who;
        let conn = self.conns[usize::from(who)];
        let (real, expected, events) = match &step.op {
            Op::Read(path) => {
                self.look(step, path, Request::Read { path }, |node, _| Reply::Value(node.value.as_bytes().into()))
            }
            Op::List(path) => self.look(step, path, Request::Directory { path }, |_, names| {
                Reply::Names(names.iter().map(|name| name.as_str().into()).collect())
            }),
            Op::GetPerms(path) => self.look(step, path, Request::GetPerms { path }, |node, _| {
                let owner = DomId(node.owner);
                Reply::Perms(Perms { others: node.others, ..Perms::private(owner) }.into())
            }),
            Op::Change(change) => self.change(step, change),
            Op::Watch(given, token) => {
                let path = absolute(who, given);
                let same = |watch: &Watch| watch.who == who && watch.path == path && watch.token == *token;
                let expected = if self.model.watches.iter().any(same) {
                    (Err(Error::WatchExists), Vec::new())
                } else {
                    let (given, token) = (given.clone(), token.clone());
                    self.model.watches.push(Watch { who, path: path.clone(), given, token });
                    (Ok(Reply::Done), vec![(self.model.watches.len() - 1, path)])
                };
                (self.world.watch(conn, given, token), expected.0, expected.1)
            }
            Op::Unwatch(given, token) => {
                let path = absolute(who, given);
                let same = |watch: &Watch| watch.who == who && watch.path == path && watch.token == *token;
                let found = self.model.watches.iter().position(same);
                let expected = found.map(|index| drop(self.model.watches.remove(index)));
                let real = self.world.unwatch(conn, given, token);
                (real, expected.map(|()| Reply::Done).ok_or(Error::NoWatch), Vec::new())
            }
            Op::Start => {
                if self.open[usize::from(who)].is_none() {
                    let tx = self.world.start(conn);
                    self.open[usize::from(who)] = Some((tx, self.model.start()));
                }
                return;
            }
            Op::End { commit } => {
                let Some((tx, transaction)) = self.open[usize::from(who)].take() else {
                    return;
                };
                if *commit {
                    let real = self.world.commit(conn, tx);
                    let expected = self.model.commit(who, &transaction);
                    let events = expected.clone().unwrap_or_default();
                    (real, expected.map(|_| Reply::Done), events)
                } else {
                    (self.world.abort(conn, tx), Ok(Reply::Done), Vec::new())
                }
            }
        };
        assert_eq!(real, expected, "{step:?}");
        self.compare_events(&events, step);
    }

    #[expect(clippy::type_complexity, reason = "the three things that every kind of step yields")]
    fn look(
        &mut self,
        step: &Step,
        given: &str,
        request: Request<'_>,
        reply: impl FnOnce(&Node, Vec<String>) -> Reply,
    ) -> (Result<Reply, Error>, Result<Reply, Error>, Vec<(usize, String)>) {
        let (index, path) = (usize::from(step.who), absolute(step.who, given));
        let lists = matches!(step.op, Op::List(_));
        let (tx, tree) = match &mut self.open[index] {
            Some((tx, transaction)) if step.inside => {
                // A list is used only by who may read it.
                let readable = plain::find(&transaction.work, step.who, &path, Need::Read) == Ok(true);
                transaction.note(&path, lists && readable);
                (*tx, &transaction.work)
            }
            _ => (TxId::NONE, &self.model.tree),
        };
        let expected = match plain::find(tree, step.who, &path, Need::Read) {
            Ok(true) => Ok(reply(&tree[&path], plain::children(tree, &path))),
            Ok(false) => Err(Error::NoNode),
            Err(error) => Err(error),
        };
        (self.world.store.request(self.conns[index], tx, request), expected, Vec::new())
    }

    #[expect(clippy::type_complexity, reason = "the three things that every kind of step yields")]
    fn change(
        &mut self,
        step: &Step,
        change: &Change,
    ) -> (Result<Reply, Error>, Result<Reply, Error>, Vec<(usize, String)>) {
        let index = usize::from(step.who);
        let absolute = |path: &String| absolute(step.who, path);
        let resolved = match change {
            Change::Write(path, value) => Change::Write(absolute(path), value.clone()),
            Change::Mkdir(path) => Change::Mkdir(absolute(path)),
            Change::Rm(path) => Change::Rm(absolute(path)),
            Change::SetPerms(path, owner, others) => Change::SetPerms(absolute(path), *owner, *others),
        };
        let (tx, expected) = match &mut self.open[index] {
            Some((tx, transaction)) if step.inside => {
                (*tx, transaction.change(step.who, resolved).map(|()| Vec::new()))
            }
            _ => (TxId::NONE, self.model.change(step.who, &resolved)),
        };
        let perms;
        let request = match change {
            Change::Write(path, value) => Request::Write { path, value: value.as_bytes() },
            Change::Mkdir(path) => Request::Mkdir { path },
            Change::Rm(path) => Request::Rm { path },
            Change::SetPerms(path, owner, others) => {
                perms = Perms { others: *others, ..Perms::private(DomId(*owner)) };
                Request::SetPerms { path, perms: &perms }
            }
        };
        let real = self.world.store.request(self.conns[index], tx, request);
        (real, expected.clone().map(|_| Reply::Done), expected.unwrap_or_default())
    }

    /// Each event once: what waits already is not queued again.
    fn compare_events(&mut self, expected: &[(usize, String)], step: &Step) {
        for (index, &conn) in self.conns.clone().iter().enumerate() {
            let watches = &self.model.watches;
            let mine = expected.iter().filter(|(watch, _)| usize::from(watches[*watch].who) == index);
            let mine: BTreeSet<(usize, String)> = mine.cloned().collect();
            let mut mine: Vec<String> = mine
                .into_iter()
                .map(|(watch, path)| {
                    let Watch { given, token, .. } = &watches[watch];
                    let skip = absolute(u16::try_from(index).unwrap(), given).len() - given.len();
                    format!("{} {token}", &path[skip..])
                })
                .collect();
            let mut real = self.world.events(conn);
            mine.sort();
            real.sort();
            assert_eq!(real, mine, "connection {index} after {step:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn the_store_does_what_the_plain_model_does(steps in prop::collection::vec(step(), 0..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.step(step);
        }
        let nodes = pair.world.check();
        prop_assert_eq!(nodes, pair.model.tree.len() + 2, "two nodes are those of the special watches");
        for (path, node) in pair.model.tree.clone() {
            prop_assert_eq!(pair.world.read(pair.world.dom0, &path), Ok(node.value));
        }
    }
}
