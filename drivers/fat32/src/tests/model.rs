//! Any sequence of operations leaves what a map from paths to contents says, on a volume that a check finds clean.

use std::collections::BTreeMap;

use embassy_futures::block_on;
use proptest::prelude::*;

use super::check::check;
use super::{mounted, pattern};
use crate::{FatError, FileSystem};

const NAMES: [&str; 6] = ["/A.TXT", "/b.txt", "/a longer name.text", "/d/inner.cfg", "/d/Größe", "/d"];

#[derive(Clone, Debug)]
enum Step {
    Write(usize, u32, usize),
    Truncate(usize, u32),
    Remove(usize),
    Rename(usize, usize),
    MakeDir(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (name.clone(), 0u32..6000, 0usize..6000).prop_map(|(n, at, len)| Step::Write(n, at, len)),
        2 => (name.clone(), 0u32..9000).prop_map(|(n, len)| Step::Truncate(n, len)),
        2 => name.clone().prop_map(Step::Remove),
        2 => (name.clone(), name.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => name.prop_map(Step::MakeDir),
    ]
}

/// Files with content, directories with none.
type Model = BTreeMap<&'static str, Option<Vec<u8>>>;

fn parent_ok(model: &Model, name: &str) -> bool {
    !name.starts_with("/d/") || model.get("/d") == Some(&None)
}

/// What the operation should say, changing the model if it should succeed.
fn expect(model: &mut Model, step: &Step, content: &[u8]) -> bool {
    match *step {
        Step::Write(n, at, _) => {
            let name = NAMES[n];
            if !parent_ok(model, name) || model.get(name) == Some(&None) {
                return false;
            }
            let file = model.entry(name).or_insert(Some(Vec::new())).as_mut().unwrap();
            let at = at as usize;
            file.resize(file.len().max(at + content.len()), 0);
            file[at..at + content.len()].copy_from_slice(content);
            true
        }
        Step::Truncate(n, len) => {
            let name = NAMES[n];
            if !parent_ok(model, name) || model.get(name) == Some(&None) {
                return false;
            }
            let file = model.entry(name).or_insert(Some(Vec::new())).as_mut().unwrap();
            file.resize(len as usize, 0);
            true
        }
        Step::Remove(n) => {
            let occupied = NAMES[n] == "/d" && model.keys().any(|name| name.starts_with("/d/"));
            !occupied && model.remove(NAMES[n]).is_some()
        }
        Step::Rename(a, b) => {
            let (from, to) = (NAMES[a], NAMES[b]);
            let Some(source) = model.get(from).cloned() else { return false };
            if !parent_ok(model, to) {
                return false;
            }
            if from == to {
                return true;
            }
            // Directories are only ever called /d, so a move would need its content moved in the model too.
            if source.is_none() || model.get(to) == Some(&None) {
                return false;
            }
            model.remove(from);
            model.insert(to, source);
            true
        }
        Step::MakeDir(n) => {
            if NAMES[n] != "/d" || model.contains_key("/d") {
                return false;
            }
            model.insert("/d", None);
            true
        }
    }
}

async fn apply<S: driver_api::Sectors>(fs: &FileSystem<S>, step: &Step, content: &[u8]) -> Result<(), FatError> {
    match *step {
        Step::Write(n, at, _) => fs.write(NAMES[n], at, content).await,
        Step::Truncate(n, len) => fs.truncate(NAMES[n], len).await,
        Step::Remove(n) => fs.remove(NAMES[n]).await,
        Step::Rename(a, b) => fs.rename(NAMES[a], NAMES[b]).await,
        Step::MakeDir(n) => fs.create_dir(NAMES[n]).await,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_sequence_of_operations_does_what_a_map_does(steps in proptest::collection::vec(step(), 1..40)) {
        let (ram, fs) = mounted(200);
        let mut model = Model::new();
        for (number, step) in (0u32..).zip(&steps) {
            let content = match step {
                Step::Write(_, _, len) => pattern(number, *len),
                Step::Truncate(..) | Step::Remove(_) | Step::Rename(..) | Step::MakeDir(_) => Vec::new(),
            };
            // The model's paths are fixed, so moving or making other directories is left out.
            match step {
                Step::MakeDir(n) if NAMES[*n] != "/d" => continue,
                Step::Rename(a, _) if model.get(NAMES[*a]) == Some(&None) => continue,
                _ => {}
            }
            let expected = expect(&mut model, step, &content);
            let result = block_on(apply(&fs, step, &content));
            prop_assert_eq!(result.is_ok(), expected, "{:?} gave {:?}", step, result);
            check(&ram.bytes());
        }
        // A fresh mount sees the same.
        let fs = block_on(FileSystem::mount(ram.clone())).unwrap();
        for name in NAMES {
            match (model.get(name), block_on(fs.read_all(name, 20_000))) {
                (Some(Some(content)), Ok(found)) => prop_assert_eq!(content, &found),
                (Some(None), Err(FatError::IsADirectory)) => {}
                (None, Err(FatError::NotFound | FatError::NotADirectory)) => {}
                (expected, found) => prop_assert!(false, "{}: {:?} {:?}", name, expected, found),
            }
        }
    }
}
