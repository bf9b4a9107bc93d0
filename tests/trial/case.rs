//! What went wrong once, or would: one case each.

use fcam::trial::{MAX_WAITING, ROLLED_BACK, Reply, Request};

use super::world::{World, id, jobs};

/// A station of two jobs that starts with `a.1`.
fn station() -> World {
    World::new(jobs("1=a 2=b"), "a.1", false)
}

fn why(world: &World, asker: u64) -> &str {
    match world.last(asker) {
        Reply::Failed { reason, .. } | Reply::Refused { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// Asked for, and so far that it judges.
fn activated(world: &mut World, bundle: &str) -> u64 {
    let asker = world.activate(bundle);
    world.settle();
    assert_eq!(world.judging, Some(id(bundle)), "{:?}", world.answers);
    asker
}

#[test]
fn a_good_bundle_takes_the_place_of_the_one_before() {
    let mut world = station();
    let asker = world.activate("a.2");
    assert_eq!(
        (world.said(asker), world.judging.clone()),
        (vec!["proving".into()], Some(id("a.1"))),
        "it is proven first"
    );
    world.turn();
    world.prove();
    assert_eq!(world.state.active(), Some(&id("a.2")), "it is written down before it judges");
    world.turn();
    assert_eq!((world.judging.clone(), world.standby.clone()), (Some(id("a.2")), Some(Some(id("a.1")))));
    world.parts(2, 1);
    world.turn();
    assert_eq!(
        (world.said(asker), world.standby.clone()),
        (vec!["proving".into(), "running".into(), "passed".into()], None)
    );
    assert!(world.state.trials.is_empty());
}

#[test]
fn a_bundle_that_runs_and_is_through_needs_no_proof() {
    let mut world = station();
    let asker = world.activate("a.1");
    assert_eq!(world.said(asker), ["passed"]);
}

#[test]
fn parts_before_it_say_nothing_of_a_bundle() {
    let mut world = station();
    world.judge(5); // five verdicts are on their way
    activated(&mut world, "a.2");
    world.seen.told.parts += 4;
    world.seen.told.faults += 4;
    world.seen.told.verdicts += 4;
    world.turn();
    world.seen.told.verdicts += 1;
    world.turn();
    assert!(world.trials.is_on_trial(), "the late ones were the other bundle's");
    world.parts(1, 1);
    world.turn();
    assert_eq!(world.judging, Some(id("a.2")), "one may be late");
    world.parts(0, 1);
    world.turn();
    assert_eq!(world.judging, Some(id("a.1")));
}

#[test]
fn triggers_that_found_no_place_count_as_its_faults() {
    let mut world = station();
    world.seen.crowded = 7;
    let asker = activated(&mut world, "a.2");
    world.seen.crowded += 1;
    world.turn();
    assert!(world.trials.is_on_trial());
    world.seen.crowded += 1;
    world.turn();
    assert!(why(&world, asker).contains("2 were late, found no place to wait"), "{:?}", world.last(asker));
    assert_eq!(world.state.withdrawn.keys().collect::<Vec<_>>(), [&id("a.2")]);
}

#[test]
fn an_engine_that_fails_on_trial_brings_the_one_before_back_at_once() {
    let mut world = station();
    let asker = activated(&mut world, "a.2");
    world.engine_fails();
    assert_eq!((world.judging.clone(), world.release), (Some(id("a.1")), 1));
    assert_eq!(
        (world.said(asker), why(&world, asker)),
        (vec!["proving".into(), "running".into(), "failed".into()], "the engine failed at a part")
    );
    world.engine_fails();
    assert_eq!(world.judging, Some(id("a.1")), "it is not on trial");
}

#[test]
fn what_is_not_proven_changes_nothing() {
    let mut world = station();
    let before = world.state.clone();
    let asker = world.activate("a.9");
    world.settle();
    assert_eq!((why(&world, asker), &world.state), ("its proof failed", &before));
}

#[test]
fn what_cannot_be_written_down_does_not_judge() {
    let mut world = station();
    world.disk = false;
    let asker = world.activate("a.2");
    world.settle();
    assert_eq!((why(&world, asker), world.judging.clone()), ("the disk is full", Some(id("a.1"))));
    world.disk = true;
    activated(&mut world, "a.2");
}

#[test]
fn what_does_not_fit_the_frames_is_given_up() {
    let mut world = World::new(jobs(""), "b.1", false);
    let asker = world.activate("b.0");
    world.settle();
    assert_eq!(
        (why(&world, asker), world.judging.clone(), world.state.active()),
        ("other frames", Some(id("b.1")), Some(&id("b.1")))
    );
    assert!(world.state.withdrawn.contains_key(&id("b.0")));
}

#[test]
fn what_is_on_trial_is_nothing_to_fall_back_to() {
    let mut world = station();
    let first = activated(&mut world, "a.2");
    let second = activated(&mut world, "a.3");
    assert_eq!(world.standby, Some(Some(id("a.1"))), "what is through");
    assert_eq!(why(&world, first), "a.3 took its place before its first parts were through");
    assert_eq!(world.state.withdrawn[&id("a.2")], why(&world, first));
    world.engine_fails();
    assert_eq!((world.judging.clone(), world.said(second).pop()), (Some(id("a.1")), Some("failed".into())));
}

#[test]
fn a_bundle_is_nothing_to_fall_back_to_for_itself() {
    let mut world = station();
    world.ask_job(2);
    world.settle();
    assert_eq!((world.judging.clone(), world.job), (Some(id("b.2")), 2), "the newest that was not given up and fits");
    let asker = activated(&mut world, "b.2");
    assert_eq!(world.standby, None);
    world.engine_fails();
    world.settle();
    assert!(why(&world, asker).contains("but it judges on: no other bundle"), "{:?}", world.last(asker));
    assert_eq!(world.judging, Some(id("b.2")));
}

#[test]
fn everybody_who_asks_for_the_bundle_on_trial_hears_how_it_ends() {
    let mut world = station();
    let first = activated(&mut world, "a.2");
    let again = world.activate("a.2");
    assert_eq!(world.said(again), ["running"], "it is the same trial");
    world.leave(first);
    let third = world.activate("a.2");
    world.parts(3, 0);
    world.turn();
    let said = [first, again, third].map(|asker| world.said(asker).pop().unwrap());
    assert_eq!(said, ["running", "passed", "passed"], "whoever went away hears nothing");
}

#[test]
fn a_bundle_of_another_job_waits_for_its_parts() {
    let mut world = station();
    let asker = world.activate("b.1");
    world.settle();
    assert_eq!(
        (world.last(asker), world.judging.clone()),
        (&Reply::Waiting { bundle: id("b.1"), job: 2 }, Some(id("a.1")))
    );
    assert_eq!(world.state.active(), Some(&id("b.1")), "the next start has it");
    world.ask_job(2);
    world.settle();
    assert_eq!(
        (world.judging.clone(), world.trials.is_on_trial(), world.standby.clone()),
        (Some(id("b.1")), true, None)
    );
}

#[test]
fn a_trial_that_the_plc_interrupts_waits_for_its_parts() {
    let mut world = station();
    let asker = activated(&mut world, "a.2");
    world.ask_job(2);
    world.settle();
    assert_eq!(world.last(asker), &Reply::Waiting { bundle: id("a.2"), job: 1 });
    assert!(world.state.trials.contains_key(&id("a.2")) && world.state.withdrawn.is_empty());
    world.ask_job(1);
    world.settle();
    assert_eq!((world.judging.clone(), world.trials.is_on_trial()), (Some(id("a.2")), true), "it goes on");
}

#[test]
fn after_a_change_of_jobs_the_release_before_is_proven_first() {
    let mut world = station();
    activated(&mut world, "a.2");
    world.ask_job(2);
    world.settle();
    world.ask_job(1);
    world.settle();
    let asker = world.activate("a.2");
    world.engine_fails();
    assert_eq!(world.judging, Some(id("a.2")), "until the other one is proven");
    assert_eq!(world.said(asker), ["running"]);
    world.settle();
    assert_eq!(
        (world.judging.clone(), world.job, why(&world, asker)),
        (Some(id("a.1")), 1, "the engine failed at a part")
    );
    assert!(world.state.withdrawn.contains_key(&id("a.2")));
}

#[test]
fn a_job_that_cannot_be_had_is_refused() {
    let mut world = World::new(jobs("1=a 2=a.9 3=x 4=b.0"), "a.1", false);
    for job in [2, 3, 4, 5] {
        world.ask_job(job);
        world.settle();
    }
    assert_eq!((world.job_done.as_slice(), world.job, world.judging), (&[false; 4][..], 1, Some(id("a.1"))));
}

#[test]
fn the_plc_comes_before_the_operator() {
    let mut world = station();
    let (first, second) = (world.activate("a.2"), world.activate("a.3"));
    world.ask_job(2);
    world.prove();
    world.turn();
    assert_eq!((world.said(first).len(), world.said(second).len()), (2, 0), "one change after the other");
    world.settle();
    assert_eq!(world.job_done, [true]);
    assert_eq!(world.last(second), &Reply::Waiting { bundle: id("a.3"), job: 1 }, "the other job was in force by then");
}

#[test]
fn a_bundle_that_fails_while_it_is_rolled_back_keeps_its_own_reason() {
    let mut world = station();
    let tried = activated(&mut world, "a.2");
    let back = world.ask(Request::Rollback);
    world.engine_fails();
    world.settle();
    assert_eq!((why(&world, tried), world.said(back).pop().unwrap()), ("the engine failed at a part", "passed".into()));
    assert_eq!(
        (world.state.active(), world.state.withdrawn[&id("a.2")].as_str()),
        (Some(&id("a.1")), "the engine failed at a part")
    );
}

#[test]
fn a_bundle_on_trial_that_is_rolled_back_says_so() {
    let mut world = station();
    let tried = activated(&mut world, "a.2");
    let back = world.ask(Request::Rollback);
    world.settle();
    assert_eq!((world.said(back), why(&world, tried)), (vec!["proving".into(), "passed".into()], ROLLED_BACK));
    assert_eq!((world.judging.clone(), world.state.withdrawn[&id("a.2")].as_str()), (Some(id("a.1")), ROLLED_BACK));
    let nothing = world.ask(Request::Rollback);
    assert_eq!(why(&world, nothing), "there is nothing to go back to");
}

/// It failed, and while the next one was proven for the operator nothing else judged.
#[test]
fn what_was_given_up_is_nothing_to_fall_back_to() {
    let mut world = World::new(jobs(""), "a.1", true);
    let asker = world.activate("a.2");
    world.engine_fails();
    world.settle();
    assert_eq!((world.judging.clone(), world.standby.clone()), (Some(id("a.2")), None));
    world.engine_fails();
    world.settle();
    assert!(why(&world, asker).contains("but it judges on"), "{:?}", world.last(asker));
}

#[test]
fn the_only_bundle_judges_on() {
    let mut world = World::new(jobs(""), "a.1", true);
    world.engine_fails();
    world.settle();
    assert!(!world.trials.is_on_trial() && world.state.withdrawn.is_empty() && world.state.trials.is_empty());
}

#[test]
fn what_never_judged_is_taken_back_at_the_end() {
    let mut world = station();
    let before = world.state.clone();
    let (first, second, third) = (world.activate("a.2"), world.activate("a.3"), world.ask(Request::Rollback));
    world.prove();
    assert_ne!(world.state, before);
    world.end();
    assert_eq!(world.state, before);
    for asker in [first, second, third] {
        assert_eq!(why(&world, asker), "the station is about to end");
    }
}

/// It failed between the moment at which its rollback was written down and the end.
#[test]
fn what_failed_stays_given_up_when_the_rest_is_taken_back() {
    let mut world = station();
    activated(&mut world, "a.2");
    world.ask(Request::Rollback);
    world.prove();
    world.engine_fails();
    world.end();
    assert_eq!((world.judging, world.state.active()), (Some(id("a.1")), Some(&id("a.1"))));
    assert_eq!(world.state.withdrawn[&id("a.2")], "the engine failed at a part");

    let mut world = station();
    activated(&mut world, "a.2");
    world.activate("a.3");
    world.prove();
    world.engine_fails();
    world.end();
    assert_eq!((world.state.history, world.state.trials), (vec![id("a.1")], [].into()));
}

/// The operator goes back to the bundle on trial, from one that waits for another job; and then it fails.
#[test]
fn a_bundle_that_fails_while_it_is_proven_again_does_not_judge() {
    for proven in [false, true] {
        let mut world = station();
        activated(&mut world, "a.2");
        world.activate("b.1");
        world.settle();
        let back = world.ask(Request::Rollback);
        if proven {
            world.prove();
        }
        world.engine_fails();
        world.settle();
        assert_eq!((why(&world, back), world.judging.clone()), ("the engine failed at a part", Some(id("a.1"))));
        assert_eq!(world.state.history, [id("a.1"), id("b.1")], "nothing came of the rollback");
        assert_eq!(world.state.withdrawn.keys().collect::<Vec<_>>(), [&id("a.2")]);
    }
}

#[test]
fn a_flood_of_requests_is_bounded() {
    let mut world = station();
    let askers: Vec<u64> = (0..3 * MAX_WAITING).map(|_| world.activate("a.2")).collect();
    let refused = askers.iter().filter(|asker| world.said(**asker) == ["refused"]).count();
    assert_eq!(refused, 2 * MAX_WAITING - 1, "one is under way");
    world.settle();
    let more: Vec<u64> = (0..3 * MAX_WAITING).map(|_| world.activate("a.2")).collect();
    assert!(more.iter().all(|asker| world.said(*asker) == ["refused"]), "as many hear of this trial already");
    world.finish();
}
