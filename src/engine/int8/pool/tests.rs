//! Threads that panic, stall and stop in the middle of a run: nobody hangs, no thread stays, and what is computed
//! afterwards is right.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{Pool, Share};
use crate::engine::int8::kernels::Isa;
use crate::engine::int8::plan::Plan;
use crate::engine::int8::step::Step;
use crate::engine::int8::tests::{one_of_each, outputs};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Blow {
    /// The part panics.
    Panic,
    /// The part takes this many milliseconds more.
    Stall(u16),
    /// The thread, which is not the caller's, finds nothing to do for this many milliseconds, whatever the step.
    Away(u16),
}

/// Whom it meets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Whom {
    /// Whoever computes a part of the step.
    All,
    /// Whoever computes this part.
    Part(usize),
    /// This thread, in the first part that it computes; the others wait until it has one.
    Thread(usize),
}

/// What goes wrong in a run: in a step after the input's (modulo their number).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strike {
    /// Where.
    pub step: usize,
    /// Whom it meets.
    pub whom: Whom,
    /// What it is.
    pub blow: Blow,
}

thread_local! {
    static NEXT: Cell<Option<Strike>> = const { Cell::new(None) };
}

/// The next run that this thread starts is struck.
pub fn strike_next_run(strike: Strike) {
    NEXT.set(Some(strike));
}

/// A pool's strike, in numbers that are read without any order: what is watched for races must not be kept in step by
/// its test.
#[derive(Default)]
pub struct Sabotage {
    strike: AtomicU64,
    has_met: AtomicBool,
}

/// A strike in 64 bits: 24 of the step, 16 of whom it meets, 8 of what it is, 16 of milliseconds; 0 is none.
fn encode(Strike { step, whom, blow }: Strike) -> u64 {
    let whom = match whom {
        Whom::All => 0,
        Whom::Part(part) => 0x100 + part as u64,
        Whom::Thread(thread) => 0x200 + thread as u64,
    };
    let (blow, ms) = match blow {
        Blow::Panic => (1, 0),
        Blow::Stall(ms) => (2, ms),
        Blow::Away(ms) => (3, ms),
    };
    (step as u64) << 40 | whom << 24 | blow << 16 | u64::from(ms)
}

fn decode(code: u64) -> Option<Strike> {
    let (low, ms) = ((code >> 24 & 0xff) as usize, code as u16);
    let whom = match code >> 32 & 0xff {
        0 => Whom::All,
        1 => Whom::Part(low),
        _ => Whom::Thread(low),
    };
    let blow =
        [Blow::Panic, Blow::Stall(ms), Blow::Away(ms)].get((code >> 16 & 0xff).checked_sub(1)? as usize).copied()?;
    Some(Strike { step: (code >> 40) as usize, whom, blow })
}

impl Sabotage {
    pub fn arm(&self) {
        self.has_met.store(false, Relaxed);
        self.strike.store(NEXT.take().map_or(0, encode), Relaxed);
    }

    fn armed(&self) -> Option<Strike> {
        decode(self.strike.load(Relaxed))
    }

    pub fn keep_away(&self, thread: usize) {
        if let Some(Strike { whom: Whom::Thread(met), blow: Blow::Away(ms), .. }) = self.armed()
            && met == thread
        {
            std::thread::sleep(Duration::from_millis(ms.into()));
        }
    }

    pub(super) fn strike(&self, plan: &Plan, step: &Step, share: Share) {
        let Some(Strike { step: number, whom, blow }) = self.armed() else { return };
        let steps = &plan.steps()[1..];
        if let Blow::Away(_) = blow {
            return; // it has met its thread already
        }
        if !std::ptr::eq(step, &steps[number % steps.len()]) || self.spares(whom, share) {
            return;
        }
        match blow {
            Blow::Panic => panic!("sabotage of step {number}"),
            Blow::Stall(ms) => std::thread::sleep(Duration::from_millis(ms.into())),
            Blow::Away(_) => {}
        }
    }

    fn spares(&self, whom: Whom, Share { part, thread, .. }: Share) -> bool {
        match whom {
            Whom::All => false,
            Whom::Part(met) => part != met,
            Whom::Thread(met) if thread == met => self.has_met.swap(true, Relaxed),
            Whom::Thread(_) => {
                // There are as many parts as threads and more, so one is left for it.
                while !self.has_met.load(Relaxed) {
                    std::thread::sleep(Duration::from_micros(100));
                }
                true
            }
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

/// How many threads live. One that has just started has no name yet, and one that has been joined is in the kernel's
/// list for a moment more.
pub fn threads_are(number: usize) {
    if cfg!(miri) {
        return; // an interpreter's threads are not the system's
    }
    let patience = crate::clock::now() + Duration::from_secs(10);
    while threads_of_pools() != number {
        assert!(crate::clock::now() < patience, "{} threads live in place of {number}", threads_of_pools());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fails if the work takes minutes: what hangs is told, and does not hang the tests.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let worker = std::thread::spawn(work);
    let patience = crate::clock::now() + Duration::from_secs(300);
    while !worker.is_finished() {
        assert!(crate::clock::now() < patience, "a thread waits for ever");
        std::thread::sleep(Duration::from_millis(1));
    }
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn pool(threads: usize) -> (Pool, Vec<i8>) {
    let (graph, input) = one_of_each();
    let plan = Plan::new(&graph, Isa::Auto.kernels().unwrap(), Pool::parts(threads));
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

/// In every step, each thread panics once, and each part; the pool goes on anyway, with the threads that it had.
#[test]
fn a_panic_of_any_thread_and_part_ends_the_run_for_all() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [1, 2, 3, 4] {
            let (mut pool, input) = pool(threads);
            let steps = if cfg!(miri) { 2 } else { pool.plan().steps().len() - 1 };
            for step in 0..steps {
                let all = (0..threads).map(Whom::Thread).chain((0..Pool::parts(threads)).map(Whom::Part));
                for whom in all {
                    strike_next_run(Strike { step, whom, blow: Blow::Panic });
                    let words = format!("sabotage of step {step}");
                    assert_eq!(panic_of(&mut pool, &input), Some(words), "{whom:?} of {threads} threads");
                    pool.run(&input);
                    assert_eq!(outputs(&pool), expected, "{threads} threads, after {whom:?} in step {step}");
                }
            }
            threads_are(threads - 1);
        }
        threads_are(0);
    });
}

#[test]
fn all_parts_may_panic_at_once() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for round in 0..if cfg!(miri) { 4 } else { 200 } {
            let (mut pool, input) = pool(2 + round % 3);
            strike_next_run(Strike { step: round, whom: Whom::All, blow: Blow::Panic });
            assert_eq!(panic_of(&mut pool, &input), Some(format!("sabotage of step {round}")));
            if round % 2 == 0 {
                pool.run(&input);
                assert_eq!(outputs(&pool), expected);
            }
        }
        threads_are(0);
    });
}

/// A core that is taken away in the middle of a part. Who waits for it sleeps.
#[test]
#[cfg_attr(miri, ignore = "the time that it takes is not an interpreter's")]
fn a_stall_in_a_part_changes_nothing_and_costs_the_others_nothing() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [2, 4] {
            let (mut pool, input) = pool(threads);
            for thread in 0..threads {
                strike_next_run(Strike { step: 7, whom: Whom::Thread(thread), blow: Blow::Stall(300) });
                let own = || clock_gettime(ClockId::ThreadCPUTime);
                let (before, start) = (own(), crate::clock::now());
                pool.run(&input);
                let spent = Duration::try_from(own() - before).unwrap();
                assert_eq!(outputs(&pool), expected, "thread {thread} of {threads}");
                assert!(crate::clock::now() - start >= Duration::from_millis(300), "it was struck");
                assert!(spent < Duration::from_millis(100), "thread {thread} of {threads}: the caller took {spent:?}");
            }
        }
    });
}

/// A core that is taken away between two parts: the others take them.
#[test]
#[cfg_attr(miri, ignore = "the time that it takes is not an interpreter's")]
fn a_thread_that_does_not_come_is_not_waited_for() {
    let _alone = alone();
    in_time(|| {
        let expected = expected();
        for threads in [2, 4] {
            let (mut pool, input) = pool(threads);
            pool.run(&input);
            for thread in 1..threads {
                std::thread::sleep(Duration::from_millis(20)); // all wait
                strike_next_run(Strike { step: 0, whom: Whom::Thread(thread), blow: Blow::Away(2000) });
                let start = crate::clock::now();
                pool.run(&input);
                let took = crate::clock::now() - start;
                assert_eq!(outputs(&pool), expected, "without thread {thread} of {threads}");
                assert!(took < Duration::from_millis(1500), "without thread {thread} of {threads}: {took:?}");
                // And those that come late find another run, in which they help.
                pool.run(&input);
                assert_eq!(outputs(&pool), expected, "after thread {thread} of {threads}");
            }
        }
    });
}

#[test]
fn a_pool_may_end_at_any_time() {
    let _alone = alone();
    in_time(|| {
        for round in 0..if cfg!(miri) { 8 } else { 300 } {
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
fn a_thread_that_would_leave_a_part_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    const LEAVES: &str = "FCAM_TEST_LEAVES";
    if std::env::var_os(LEAVES).is_some() {
        let _whole = super::AbortOnUnwind;
        panic!("it leaves");
    }
    let test = "engine::int8::pool::tests::a_thread_that_would_leave_a_part_ends_the_process";
    let mut own = std::process::Command::new(std::env::current_exe().unwrap());
    let output = own.args([test, "--exact", "--nocapture"]).env(LEAVES, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}

/// Two threads compute a plan with nothing between its steps: what a pool would be without its order. `./dev sanitize`
/// wants it to be found.
#[test]
#[cfg(raced)]
#[ignore = "a race on purpose: ThreadSanitizer has to find it"]
fn a_planted_race() {
    let (graph, input) = one_of_each();
    for kernels in Isa::ALL.into_iter().filter_map(Isa::kernels) {
        let plan = Plan::new(&graph, kernels, 2);
        std::thread::scope(|scope| {
            for part in 0..2 {
                let (plan, input) = (&plan, &input);
                scope.spawn(move || {
                    for step in plan.steps() {
                        // SAFETY: none: the steps before this one may not be done. No step takes an address from what
                        // it reads.
                        unsafe { step.run(kernels, plan.base(), input, part, 2) };
                    }
                });
            }
        });
    }
}
