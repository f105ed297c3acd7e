//! Random calls of three domains against a model that keeps each port in the plainest way.

use crate::hw::Memory;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DOMAINS: usize = 3;
/// Ports that steps name: more than are open at most times, so that some are closed.
const NAMED: u32 = 7;

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc { by: usize, to: usize },
    Connect { by: usize, to: usize, port: u32 },
    Ipi { by: usize },
    Send { by: usize, port: u32 },
    Take { by: usize, port: u32 },
    Mask { by: usize, port: u32 },
    Unmask { by: usize, port: u32 },
    Close { by: usize, port: u32 },
    Reset { by: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (by, to, port) = (0..DOMAINS, 0..DOMAINS, 0..NAMED);
    prop_oneof![
        3 => (by.clone(), to.clone()).prop_map(|(by, to)| Step::Alloc { by, to }),
        4 => (by.clone(), to, port.clone()).prop_map(|(by, to, port)| Step::Connect { by, to, port }),
        1 => by.clone().prop_map(|by| Step::Ipi { by }),
        6 => (by.clone(), port.clone()).prop_map(|(by, port)| Step::Send { by, port }),
        4 => (by.clone(), port.clone()).prop_map(|(by, port)| Step::Take { by, port }),
        2 => (by.clone(), port.clone()).prop_map(|(by, port)| Step::Mask { by, port }),
        2 => (by.clone(), port.clone()).prop_map(|(by, port)| Step::Unmask { by, port }),
        3 => (by.clone(), port).prop_map(|(by, port)| Step::Close { by, port }),
        1 => by.prop_map(|by| Step::Reset { by }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Unbound(usize),
    Connected(usize, u32),
    Ipi,
}

/// What must be true of one domain.
#[derive(Default)]
struct Table {
    ports: BTreeMap<u32, End>,
    /// A bit each; masks outlive their ports.
    pending: u64,
    masked: u64,
    told: bool,
}

impl Table {
    fn open(&mut self, end: End) -> u32 {
        let port = (1..).find(|port| !self.ports.contains_key(port)).unwrap();
        self.ports.insert(port, end);
        self.pending &= !(1 << port);
        port
    }

    fn pend(&mut self, port: u32) {
        if self.pending & 1 << port == 0 {
            self.pending |= 1 << port;
            self.told |= self.masked & 1 << port == 0;
        }
    }
}

#[derive(Default)]
struct Model([Table; DOMAINS]);

impl Model {
    fn close(&mut self, by: usize, port: u32) -> Result<(), XenError> {
        let end = self.0[by].ports.remove(&port).ok_or(XenError::Inval)?;
        self.0[by].pending &= !(1 << port);
        if let End::Connected(to, far) = end {
            self.0[to].ports.insert(far, End::Unbound(by));
        }
        Ok(())
    }

    fn send(&mut self, by: usize, port: u32) -> Result<(), XenError> {
        match self.0[by].ports.get(&port).ok_or(XenError::Inval)? {
            End::Unbound(_) => {}
            End::Ipi => self.0[by].pend(port),
            &End::Connected(to, far) => self.0[to].pend(far),
        }
        Ok(())
    }
}

/// Carries out a step on both; their answers must be the same.
fn run(world: &mut World, domains: &[Dom], model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Alloc { by, to } => {
            let port = alloc(world, &domains[by], domains[to].id);
            prop_assert_eq!(port, Ok(Port(model.0[by].open(End::Unbound(to)))));
        }
        Step::Connect { by, to, port } => {
            let done = connect(world, &domains[by], domains[to].id, Port(port));
            if model.0[to].ports.get(&port) == Some(&End::Unbound(by)) {
                let near = model.0[by].open(End::Connected(to, port));
                model.0[to].ports.insert(port, End::Connected(by, near));
                model.0[by].pend(near);
                prop_assert_eq!(done, Ok(Port(near)));
            } else {
                prop_assert_eq!(done, Err(XenError::Inval));
            }
        }
        Step::Ipi { by } => {
            prop_assert_eq!(ipi(world, &domains[by], 0), Ok(Port(model.0[by].open(End::Ipi))));
        }
        Step::Send { by, port } => prop_assert_eq!(send(world, &domains[by], Port(port)), model.send(by, port)),
        Step::Take { by, port } => {
            take(&domains[by], Port(port));
            model.0[by].pending &= !(1 << port);
        }
        Step::Mask { by, port } => {
            mask(&domains[by], Port(port));
            model.0[by].masked |= 1 << port;
        }
        Step::Unmask { by, port } => {
            let table = &mut model.0[by];
            let open = table.ports.contains_key(&port);
            prop_assert_eq!(unmask(world, &domains[by], Port(port)).is_ok(), open);
            if open {
                table.told |= table.masked & table.pending & 1 << port != 0;
                table.masked &= !(1 << port);
            }
        }
        Step::Close { by, port } => prop_assert_eq!(close(world, &domains[by], Port(port)), model.close(by, port)),
        Step::Reset { by } => {
            prop_assert_eq!(reset(world, &domains[by]), Ok(()));
            while let Some((&port, _)) = model.0[by].ports.first_key_value() {
                model.close(by, port).unwrap();
            }
        }
    }
    Ok(())
}

fn check(domains: &[Dom], model: &mut Model) -> Result<(), TestCaseError> {
    for (domain, table) in domains.iter().zip(&mut model.0) {
        let (pending, mask) =
            (word(domain, layout::EVTCHN_PENDING, Port(0)), word(domain, layout::EVTCHN_MASK, Port(0)));
        prop_assert_eq!(Fake::load64(pending.0), table.pending);
        prop_assert_eq!(Fake::load64(mask.0), table.masked);
        prop_assert_eq!(told(domain), core::mem::take(&mut table.told).then_some(1));
        prop_assert_eq!(taken_ports(domain), table.ports.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn event_channels_behave_like_the_model_and_leave_nothing_behind(
        steps in prop::collection::vec(step(), 1..60),
        order in Just([0, 1, 2]).prop_shuffle(),
    ) {
        let (mut world, _dom0) = World::new();
        let free = Fake::frames().free_pages();
        let mut domains: Vec<_> = (0..DOMAINS).map(|_| world.domain(2)).collect();
        let mut model = Model::default();
        for &step in &steps {
            run(&mut world, &domains, &mut model, step)?;
            check(&domains, &mut model)?;
        }
        for (gone, &at) in order.iter().enumerate() {
            world.destroy(&domains[at]);
            prop_assert_eq!(taken_ports(&domains[at]), 0);
            // The ports of those that live on are connected to nobody who has gone.
            for &other in &order[gone + 1..] {
                for (_, binding) in open_ports(&domains[other]) {
                    prop_assert!(!matches!(binding, Binding::Interdomain(id, _) if id == domains[at].id));
                }
            }
        }
        domains.clear();
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}
