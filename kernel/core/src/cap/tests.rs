//! Tests of the capability table.

use super::*;
use crate::fake::{Fake, World};

#[test]
fn the_capabilities_of_a_table_are_its_own_and_run_out() {
    let (mut world, _dom0) = World::new();
    let domain = world.domain(1);
    let table = CapTable::<Fake>::with_platform();
    assert!(matches!(table.get(0), Ok(Target::Platform)));
    for nothing in [1, 511, 512, u64::MAX] {
        assert_eq!(table.get(nothing).err(), Some(XenError::Perm));
        assert_eq!(table.remove(nothing), Err(XenError::Perm));
    }
    assert_eq!(table.remove(0), Err(XenError::Perm));
    let caps: Vec<_> =
        core::iter::from_fn(|| table.add(domain.clone()).ok()).map(|cap| u64::from(cap.index())).collect();
    assert_eq!(caps, (1..512).collect::<Vec<_>>());
    assert_eq!(table.add(domain.clone()), Err(XenError::NoSpc));
    assert!(matches!(table.get(7), Ok(Target::Domain(named)) if Fake::same(&named, &domain)), "not the machine");
    for cap in [500, 3] {
        table.remove(cap).unwrap();
    }
    let again = [(); 2].map(|()| table.add(domain.clone()).unwrap().index());
    assert_eq!(again, [3, 500]);
}
