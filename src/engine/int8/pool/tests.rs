//! Threads that panic, stall and stop in the middle of a run: nobody hangs, no thread stays, and what is computed afterwards is right.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{AbortOnUnwind, Pool};
use crate::engine::int8::kernels::Isa;
use crate::engine::int8::plan::Plan;
use crate::engine::int8::step::Step;
use crate::engine::int8::tests::{one_of_each, outputs};

/// What goes wrong in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Blow {
    Panic,
    /// So many milliseconds, at least 1.
    Stall(u16),
}

/// Where it goes wrong: in a step (modulo their number), in one part or in all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strike {
    pub step: usize,
    pub part: Option<usize>,
    pub blow: Blow,
}

thread_local! {
    static NEXT: Cell<Option<Strike>> = const { Cell::new(None) };
}

/// The next run that this thread starts is struck.
pub fn strike_next_run(strike: Strike) {
    NEXT.set(Some(strike));
}

/// A pool's strike, in a number that is read without any order: what is watched for races must not be kept in step by its test.
#[derive(Default)]
pub struct Sabotage(AtomicU64);

impl Sabotage {
    pub fn arm(&self) {
        let code = NEXT.take().map_or(0, |Strike { step, part, blow }| {
            let blow = match blow {
                Blow::Panic => 1,
                Blow::Stall(ms) => 1 + u64::from(ms),
            };
            (step as u64) << 32 | part.map_or(0, |part| part as u64 + 1) << 16 | blow
        });
        self.0.store(code, Relaxed);
    }

    pub fn strike(&self, plan: &Plan, step: &Step, part: usize) {
        let code = self.0.load(Relaxed);
        let (at, whom, blow) = ((code >> 32) as usize % plan.steps().len(), code >> 16 & 0xffff, code & 0xffff);
        if blow == 0 || !std::ptr::eq(step, &plan.steps()[at]) || ![0, part as u64 + 1].contains(&whom) {
            return;
        }
        match blow {
            1 => panic!("sabotage of part {part} in step {at}"),
            ms => std::thread::sleep(Duration::from_millis(ms - 1)),
        }
    }
}

/// For tests that count threads: those of others would be counted too.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of all pools in this process (proc(5)).
fn threads_of_pools() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("int8-")).count()
}

/// So many threads live. One that has just started has no name yet, and one that has been joined is in the kernel's list for a moment more.
pub fn threads_are(number: usize) {
    let patience = crate::clock::now() + Duration::from_secs(10);
    while threads_of_pools() != number {
        assert!(crate::clock::now() < patience, "{} threads live in place of {number}", threads_of_pools());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fails if the work takes minutes: what hangs is told, and does not hang the tests.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    let worker = std::thread::spawn(move || sender.send(work()).unwrap());
    match done.recv_timeout(Duration::from_secs(300)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a thread waits for ever"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().unwrap_err()),
    }
}

fn pool(threads: usize) -> (Pool, Vec<i8>) {
    let (region, input) = one_of_each();
    let plan = Plan::new(&region, Isa::Auto.kernels().unwrap(), threads);
    (Pool::new(plan, threads).unwrap(), input)
}

/// What a thread alone computes.
fn expected() -> Vec<Vec<u32>> {
    let (mut pool, input) = pool(1);
    pool.run(&input);
    outputs(&pool)
}

/// The words of the panic that a run ends in.
fn panic_of(pool: &mut Pool, input: &[i8]) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| pool.run(input))).err()?;
    Some(panic.downcast_ref::<String>().unwrap().clone())
}

/// Every part panics in every step; the pool goes on, and so does one that is made anew.
#[test]
fn a_panic_of_any_part_ends_the_run_for_all() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [1, 2, 3, 4] {
            let (mut pool, input) = pool(threads);
            let steps = if cfg!(miri) { 3 } else { pool.plan().steps().len() };
            for round in 0..steps * threads {
                let (step, part) = (round / threads, round % threads);
                strike_next_run(Strike { step, part: Some(part), blow: Blow::Panic });
                let words = format!("sabotage of part {part} in step {step}");
                assert_eq!(panic_of(&mut pool, &input), Some(words), "{threads} threads");
                threads_are(threads - 1);
                pool.run(&input);
                assert_eq!(outputs(&pool), expected, "{threads} threads, after part {part} in step {step}");
            }
        }
        threads_are(0);
    });
}

#[test]
fn all_parts_may_panic_at_once() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for round in 0..200 {
            let (mut pool, input) = pool(2 + round % 3);
            strike_next_run(Strike { step: round, part: None, blow: Blow::Panic });
            assert!(panic_of(&mut pool, &input).unwrap().starts_with("sabotage of part"));
            if round % 2 == 0 {
                pool.run(&input);
                assert_eq!(outputs(&pool), expected);
            }
        }
        threads_are(0);
    });
}

/// A core that is taken away in the middle of a step. Who waits for it sleeps.
#[test]
fn a_stall_of_one_part_changes_nothing_and_costs_the_others_nothing() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [2, 4] {
            let (mut pool, input) = pool(threads);
            for part in 0..threads {
                strike_next_run(Strike { step: 7 + part, part: Some(part), blow: Blow::Stall(300) });
                let own = || clock_gettime(ClockId::ThreadCPUTime);
                let (before, start) = (own(), crate::clock::now());
                pool.run(&input);
                let spent = Duration::try_from(own() - before).unwrap();
                assert_eq!(outputs(&pool), expected, "part {part} of {threads}");
                assert!(crate::clock::now() - start >= Duration::from_millis(300), "it was struck");
                assert!(spent < Duration::from_millis(100), "part {part} of {threads}: the caller computed {spent:?}");
            }
        }
    });
}

#[test]
fn a_pool_may_end_at_any_time() {
    let _alone = alone();
    in_time(|| {
        for round in 0..300 {
            let (mut pool, input) = pool(1 + round % 4);
            for _ in 0..round % 3 {
                pool.run(&input);
            }
        }
        threads_are(0);
    });
}

/// Runs one after another and with pauses, so that threads are met spinning, going to sleep and asleep.
#[test]
fn every_run_computes_the_same() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [2, 3, 4] {
            let (mut pool, input) = pool(threads);
            for run in 0..if cfg!(miri) { 3 } else { 300 } {
                pool.run(&input);
                assert_eq!(outputs(&pool), expected, "run {run} on {threads} threads");
                std::thread::sleep(Duration::from_micros(run % 4 * 25));
            }
        }
    });
}

/// In a process of its own, which ends. On an emulated processor a program cannot start itself.
#[test]
#[cfg(target_arch = "x86_64")]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_thread_that_would_leave_the_others_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    const LEAVES: &str = "FCAM_TEST_LEAVES";
    if std::env::var_os(LEAVES).is_some() {
        let _all = AbortOnUnwind;
        panic!("it leaves");
    }
    let test = "engine::int8::pool::tests::a_thread_that_would_leave_the_others_ends_the_process";
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    let output = own.args([test, "--exact", "--nocapture"]).env(LEAVES, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}
