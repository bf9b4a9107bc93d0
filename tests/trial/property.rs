//! Any order of events. Where each is carried to its end before the next one, the machine does what the model says;
//! where they come in between, what must never happen does not (`World` asserts that after each step), every request
//! and every job has one answer, and every trial an end.

use fcam::trial::Request;
use proptest::collection::vec;
use proptest::prelude::*;

use super::model::Model;
use super::world::{INSTALLED, World, id, jobs};

#[derive(Debug, Clone)]
enum Event {
    Activate(&'static str),
    Rollback,
    Job(u16),
    Parts(u64, u64),
    EngineFails,
    /// The next ones make no sense where nothing is ever under way.
    Prove,
    Turn,
    Judge(u64),
    Leave(u64),
    Disk(bool),
}

fn between_changes() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::sample::select(&INSTALLED[..]).prop_map(Event::Activate),
        3 => Just(Event::Rollback),
        5 => (0u16..5).prop_map(Event::Job),
        6 => (0u64..3, 0u64..2).prop_map(|(good, late)| Event::Parts(good, late)),
        2 => Just(Event::EngineFails),
    ]
}

fn any_time() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => between_changes(),
        6 => Just(Event::Prove),
        6 => Just(Event::Turn),
        2 => (0u64..4).prop_map(Event::Judge),
        1 => (1u64..20).prop_map(Event::Leave),
        1 => prop::bool::weighted(0.7).prop_map(Event::Disk),
    ]
}

fn station() -> impl Strategy<Value = (&'static str, &'static str, bool)> {
    let jobs =
        prop::sample::select(vec!["", "1=a 2=b", "1=a 2=b.1 3=b.2", "1=a.2 2=b 3=b.2 4=c", "1=a.1 2=a.2 3=a.9 4=x"]);
    (jobs, prop::sample::select(vec!["a.1", "a.2", "b.2", "c.1"]), any::<bool>())
}

fn run(world: &mut World, event: &Event) {
    match event {
        Event::Activate(bundle) => drop(world.activate(bundle)),
        Event::Rollback => drop(world.ask(Request::Rollback)),
        Event::Job(job) => world.ask_job(*job),
        Event::Parts(good, late) => world.parts(*good, *late),
        Event::EngineFails => world.engine_fails(),
        Event::Prove => world.prove(),
        Event::Turn => world.turn(),
        Event::Judge(parts) => world.judge(*parts),
        Event::Leave(asker) => world.leave(*asker),
        Event::Disk(works) => world.disk = *works,
    }
}

fn model(model: &mut Model, event: &Event) {
    match event {
        Event::Activate(bundle) => model.activate(&id(bundle)),
        Event::Rollback => model.roll_back(),
        Event::Job(job) => model.ask_job(*job),
        Event::Parts(good, late) => model.parts(*good, *late),
        Event::EngineFails => model.fail(),
        _ => unreachable!("nothing is under way"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_model_says((table, start, trial) in station(), events in vec(between_changes(), 1..40)) {
        let mut world = World::new(jobs(table), start, trial);
        let mut expected = Model::new(jobs(table), start, trial);
        for event in &events {
            run(&mut world, event);
            world.settle();
            world.turn();
            world.settle();
            model(&mut expected, event);
            let behind = world.standby.clone();
            prop_assert_eq!(&world.judging, &expected.judging, "what judges after {:?}", event);
            prop_assert_eq!(behind, expected.behind.clone().map(|behind| behind.0), "what stands by after {:?}", event);
            prop_assert_eq!((world.job, world.trials.is_on_trial()), (expected.job, expected.trial.is_some()), "after {:?}", event);
            prop_assert_eq!(&world.state.history, &expected.history, "after {:?}", event);
            prop_assert_eq!(world.state.trials.keys().cloned().collect::<Vec<_>>(), expected.unproven.iter().cloned().collect::<Vec<_>>());
            prop_assert_eq!(world.state.withdrawn.keys().cloned().collect::<Vec<_>>(), expected.given_up.iter().cloned().collect::<Vec<_>>());
        }
        world.finish();
    }

    #[test]
    fn whatever_happens_each_request_has_one_answer_and_each_trial_an_end(
        (table, start, trial) in station(),
        events in vec(any_time(), 1..120),
    ) {
        let mut world = World::new(jobs(table), start, trial);
        for event in &events {
            run(&mut world, event);
        }
        world.disk = true;
        world.finish();
    }

    #[test]
    fn whenever_it_ends_what_never_judged_is_taken_back(
        (table, start, trial) in station(),
        events in vec(any_time(), 1..60),
    ) {
        let mut world = World::new(jobs(table), start, trial);
        for event in &events {
            run(&mut world, event);
        }
        let before = world.committed.clone();
        world.disk = true;
        world.end();
        if let Some(before) = before {
            prop_assert_eq!(&world.state, &before);
        }
        let watched = world.open().all(|asker| world.said(asker).last().is_some_and(|word| word == "running"));
        prop_assert!(watched || world.open().next().is_none(), "only a trial that is cut has no answer");
    }
}
