//! Runs the stories in `testdata`: each is a short script with what is expected on the way.
//!
//! The language stands in `model/script.rs`. A failing story prints its trace, file and line.

#[allow(dead_code)] // shared with other test targets; each uses its own part
#[path = "model/cluster.rs"]
mod cluster;
#[path = "model/script.rs"]
mod script;

use std::{collections::BTreeSet, fs, path::Path};

macro_rules! stories {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let text = include_str!(concat!("../testdata/", stringify!($name), ".txt"));
                match script::run(stringify!($name), text) {
                    Ok(trace) => println!("{trace}"),
                    Err(problem) => panic!("{problem}"),
                }
            }
        )*
        const STORIES: &[&str] = &[$(stringify!($name)),*];
    };
}

stories! {
    election pre_vote isolated_leader divergence figure_8 lost_appends learner membership lease
    leader_removes_itself transfer read_index sessions single_voter late_timer crash
    snapshot check_quorum change_rolled_back promotion_left_behind fetched rounds
}

#[test]
fn every_story_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let files = fs::read_dir(folder).expect("the folder of stories is part of the package");
    let found: BTreeSet<String> = files
        .filter_map(|file| file.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    let told: BTreeSet<String> = STORIES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, told);
}

#[test]
fn a_script_that_is_wrong_says_where() {
    let wrong = |text| script::run("wrong", text).expect_err("the script is wrong");
    assert!(wrong("nodes 3\n\nfly 1").contains("wrong.txt:3: fly 1"));
    assert!(wrong("nodes 3 | expect 1 role=leader").ends_with("role is follower"));
    assert!(wrong("nodes three").contains("three is no fitting number"));
    assert!(wrong("nodes 3 | expect 1 colour=red").contains("colour is not known"));
    assert!(wrong("nodes 3 | campaign 9").contains("no server 9"));
    assert!(wrong("nodes 3 | crash 1 | campaign 1").contains("1 is down"));
    assert!(wrong("nodes 3 | campaign 1 | answer 1 read ok 1").contains("has not answered"));
}
