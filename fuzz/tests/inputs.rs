//! Seeds and regressions, tried without an engine.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzz::{TARGETS, Target};

fn holds(target: Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

#[test]
fn what_once_broke_a_target_holds_and_so_do_the_seeds() {
    let mut broken = Vec::new();
    for target in TARGETS {
        let inputs = target.seeds().into_iter().chain(target.regressions());
        broken.extend(inputs.filter(|(_, input)| !holds(*target, input)).map(|(path, _)| path));
        for seed in target.made_seeds() {
            assert!(holds(*target, &seed), "{target:?}: a made seed");
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn every_target_has_seeds_and_every_folder_a_target() {
    for target in TARGETS {
        assert!(!target.seeds().is_empty(), "{target:?} has no seed");
    }
    for folder in ["seeds", "regressions"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(Target::named(&name).is_some(), "{folder}/{name} is of no target");
        }
    }
}

/// What is read as JSON has another form on the wire, with all that the seed says.
#[test]
fn every_seed_of_json_makes_one_of_protobuf() {
    let (json, protobuf) = (Target::named("json").unwrap(), Target::named("protobuf").unwrap());
    for (path, seed) in json.seeds() {
        assert!(
            apiserver::fuzz::protobuf_of(&seed).is_some_and(|made| made.len() > seed.len() / 4),
            "nothing is made of {}",
            path.display()
        );
    }
    assert_eq!(protobuf.made_seeds().len(), json.seeds().len());
}

/// Cut short, doubled, and with each byte changed: what an engine would try first.
#[test]
fn seeds_hold_when_they_are_damaged() {
    for target in TARGETS.iter().filter(|target| !target.name.starts_with("image-")) {
        for (path, seed) in target.seeds().into_iter().filter(|(_, seed)| seed.len() < 400) {
            for place in (0..seed.len()).step_by(1 + seed.len() / 40) {
                let mut changed = seed.clone();
                changed[place] ^= 0x55;
                let longer = [&seed[..place], &seed[..]].concat();
                for input in [&seed[..place], &changed, &longer] {
                    assert!(holds(*target, input), "{}: {}", path.display(), String::from_utf8_lossy(input));
                }
            }
        }
    }
}
