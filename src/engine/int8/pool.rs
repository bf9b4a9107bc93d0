//! Threads that live as long as the network and share each step's rows. In: a plan, and the camera's tensor for each
//! run. Out: the plan's outputs. The result is the same for every number of threads: a row does not know who computes
//! it.
//!
//! # Parts
//! A step has up to [`EACH`] parts for each thread. A thread takes its own first, because the rows of the step before
//! lie in its cache, and then what the others have not taken: a thread that the system does not let run is not waited
//! for, unless it is in the middle of a part.
//!
//! # What keeps the threads apart
//! - Every thread owns a share of the plan and of its arena, so that neither is freed while one of them may still
//!   compute, in whatever order things are dropped. The caller's tensor is read by the caller alone.
//! - A part is computed by whoever has taken it ([`Progress`]), and a step starts when all parts of the one before are
//!   done. A thread that has taken nothing touches nothing.
//! - A panic is caught in its part. The rest of that run is skipped, and the caller panics when all parts are over. A
//!   thread that would leave a part in any other way ends the process. Nothing is kept from a run that failed: the next
//!   one writes every tensor anew.
//!
//! # Waiting
//! A thread that finds nothing to do spins for [`SPIN`] and then sleeps, so that waiting for a stalled core takes no
//! processor time from the threads that capture and actuate. PERFORMANCE.md has what was measured.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::plan::Plan;
use super::step::Step;
use crate::clock;

/// How long a thread spins before it sleeps: about what sleeping and waking up take, so that waiting never costs more
/// than twice the best choice.
const SPIN: Duration = Duration::from_micros(50);

/// Looks at what is waited for between two looks at the clock.
const LOOKS: u32 = 16;

/// Parts of a step for each thread, where there are several.
const EACH: usize = 4;

/// A plan and the threads that compute it, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What all threads of a pool know.
struct Shared {
    plan: Plan,
    threads: usize,
    progress: Progress,
    failure: Failure,
    /// Threads that have begun to serve.
    serving: AtomicUsize,
    #[cfg(test)]
    sabotage: tests::Sabotage,
}

impl Pool {
    /// Parts that a step has on this many threads, at most [`MAX_PARTS`].
    pub fn parts(threads: usize) -> usize {
        if threads > 1 { (threads * EACH).min(MAX_PARTS) } else { 1 }
    }

    /// Starts `threads - 1` threads, 1 to [`MAX_PARTS`], whose priority is the caller's; the caller's own is the first.
    /// The plan has scratch for as many parts. An error of the system leaves no thread behind.
    pub fn new(plan: Plan, threads: usize) -> std::io::Result<Self> {
        let threads = threads.clamp(1, MAX_PARTS);
        let shared = Shared {
            progress: Progress::new(plan.steps().len(), Self::parts(threads)),
            plan,
            threads,
            failure: Failure::default(),
            serving: AtomicUsize::new(0),
            #[cfg(test)]
            sabotage: tests::Sabotage::default(),
        };
        let mut pool = Self { shared: Arc::new(shared), workers: Vec::new() };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("int8-{number}"));
            pool.workers.push(thread.spawn(move || shared.serve(number))?);
        }
        // A thread allocates while it starts: on a busy machine that would be in the middle of a later run.
        while pool.shared.serving.load(Acquire) < pool.workers.len() {
            std::thread::yield_now();
        }
        Ok(pool)
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// What is computed.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Runs the plan on one input and returns when it is done. A step's panic on any thread is the caller's, once no
    /// thread computes any more; the pool can be used again.
    pub fn run(&mut self, input: &[i8]) {
        #[cfg(test)]
        self.shared.sabotage.arm();
        self.shared.run(input);
        if let Some(panic) = self.shared.failure.take() {
            resume_unwind(panic);
        }
    }

    /// The values of an output after a run, NHWC.
    pub fn output(&self, index: usize) -> &[f32] {
        // SAFETY: steps run in `run` alone, which borrows the pool mutably and returns when the last one is done.
        unsafe { self.shared.plan.output(index) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.progress.set(END);
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // it ends in no other way than by `END`
        }
    }
}

impl Shared {
    /// The caller's part of a run. What takes the input is the first step, before the others are let in.
    fn run(&self, input: &[i8]) {
        if let Some(first) = self.plan.steps().first() {
            self.try_part(first, Share { part: 0, parts: 1, thread: 0 }, input);
        }
        self.progress.set(self.progress.idle.min(1));
        loop {
            let turn = self.progress.turn();
            match self.progress.take(self.own(0)) {
                Ok(taken) => self.compute(taken, 0),
                Err(step) if step == self.progress.idle => break,
                Err(_) => self.progress.wait_past(turn),
            }
        }
        if self.threads == 1 {
            self.plan.unfence();
        }
    }

    /// The life of another thread.
    fn serve(&self, thread: usize) {
        self.serving.fetch_add(1, Release);
        loop {
            #[cfg(test)]
            self.sabotage.keep_away(thread);
            let turn = self.progress.turn();
            match self.progress.take(self.own(thread)) {
                Ok(taken) => self.compute(taken, thread),
                Err(END) => return,
                Err(_) => self.progress.wait_past(turn),
            }
        }
    }

    /// The parts that a thread takes first.
    fn own(&self, thread: usize) -> u32 {
        let parts = self.progress.parts as usize;
        let upto = |thread: usize| low_bits(parts * thread / self.threads);
        upto(thread + 1) & !upto(thread)
    }

    fn compute(&self, Taken { step: number, part }: Taken, thread: usize) {
        let whole = AbortOnUnwind;
        if let Some(step) = self.plan.steps().get(number as usize) {
            self.try_part(step, Share { part: part as usize, parts: self.progress.parts as usize, thread }, &[]);
        }
        self.progress.finish(number);
        std::mem::forget(whole);
    }

    /// Nothing if the run has failed already.
    fn try_part(&self, step: &Step, share: Share, input: &[i8]) {
        if !self.failure.is_there() {
            let work = AssertUnwindSafe(|| self.part(step, share, input));
            catch_unwind(work).unwrap_or_else(|panic| self.failure.keep(panic));
        }
    }

    fn part(&self, step: &Step, share: Share, input: &[i8]) {
        let Share { part, parts, .. } = share;
        #[cfg(test)]
        self.sabotage.strike(&self.plan, step, share);
        if self.threads == 1 {
            self.plan.fence(step, 0, 1); // more threads would need a fence each, and there is one for the process
        }
        // SAFETY: the plan's own arena. A part is taken once, when all parts of all steps before it are done, which
        // `Progress` orders in memory too; the first step runs while no other can. No output is borrowed while
        // `Pool::run` has the pool.
        unsafe { step.run(self.plan.kernels(), self.plan.base(), input, part, parts) };
    }
}

/// What a thread computes of a step.
#[derive(Clone, Copy)]
struct Share {
    part: usize,
    parts: usize,
    #[cfg_attr(not(test), expect(dead_code, reason = "what goes wrong in tests, goes wrong in a thread"))]
    thread: usize,
}

/// Ends the process when it is dropped: nobody else would ever finish the part that a thread has taken, and all would
/// wait for it.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        log::error!("a thread of the int8 engine was about to leave a part undone: the process ends");
        std::process::abort();
    }
}

/// The first panic of a run.
#[derive(Default)]
struct Failure {
    is_there: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Failure {
    fn is_there(&self) -> bool {
        self.is_there.load(Relaxed)
    }

    fn keep(&self, panic: Box<dyn Any + Send>) {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        self.is_there.store(true, Relaxed);
    }

    /// Once no thread computes any more.
    fn take(&self) -> Option<Box<dyn Any + Send>> {
        let there = self.is_there.swap(false, Relaxed);
        there.then(|| self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten()
    }
}

/// Parts that a step may have: one bit each.
pub const MAX_PARTS: usize = 32;

/// In place of a step: the pool is dropped.
const END: u32 = u32::MAX;

fn low_bits(count: usize) -> u32 {
    1u32.checked_shl(count as u32).map_or(u32::MAX, |bit| bit - 1)
}

/// A part that is one thread's to compute, and that it has to finish.
struct Taken {
    step: u32,
    part: u32,
}

/// Which step runs, and which of its parts are taken: one number, so that a part is taken of the step that runs and of
/// no other, however long a thread was away since it looked. What was written in the steps before is there for whoever
/// takes a part.
struct Progress {
    /// The step, and 32 bits of parts that are taken.
    state: AtomicU64,
    /// Parts of the step that are done.
    done: AtomicU32,
    parts: u32,
    /// In place of a step: nothing runs.
    idle: u32,
    /// Counts the steps of all runs, for who waits: the same step comes again in the next run.
    turn: AtomicU32,
    sleepers: AtomicU32,
    /// Held between a sleeper's last look at the turn and its sleep.
    lock: Mutex<()>,
    wake: Condvar,
}

impl Progress {
    fn new(steps: usize, parts: usize) -> Self {
        let idle = steps as u32;
        Self {
            state: AtomicU64::new(u64::from(idle) << 32),
            done: AtomicU32::new(0),
            parts: parts as u32,
            idle,
            turn: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// A part that nobody has, of `own` first; or the step that has none.
    fn take(&self, own: u32) -> Result<Taken, u32> {
        let mut state = self.state.load(Acquire);
        loop {
            let (step, taken) = ((state >> 32) as u32, state as u32);
            let free = low_bits(self.parts as usize) & !taken;
            if step >= self.idle || free == 0 {
                return Err(step);
            }
            // Of another thread's, what it would take last.
            let part = if free & own != 0 { (free & own).trailing_zeros() } else { free.ilog2() };
            match self.state.compare_exchange_weak(state, state | 1 << part, Acquire, Acquire) {
                Ok(_) => return Ok(Taken { step, part }),
                Err(now) => state = now,
            }
        }
    }

    /// A part is done; after the last one the next step runs.
    fn finish(&self, step: u32) {
        if self.done.fetch_add(1, AcqRel) + 1 == self.parts {
            self.done.store(0, Relaxed); // before anybody can take a part of the next step
            self.set(step + 1);
        }
    }

    /// Another step, with no part taken.
    fn set(&self, step: u32) {
        self.state.store(u64::from(step) << 32, Release);
        // As in `sleep_past`: either this sees the sleeper, or the sleeper sees the turn.
        self.turn.fetch_add(1, SeqCst);
        if self.sleepers.load(SeqCst) > 0 {
            drop(self.lock.lock());
            self.wake.notify_all();
        }
    }

    /// To be asked for before a look for work that may lead to waiting.
    fn turn(&self) -> u32 {
        self.turn.load(SeqCst)
    }

    /// Until something has been set since that turn.
    fn wait_past(&self, turn: u32) {
        if !self.spin_past(turn) {
            self.sleep_past(turn);
        }
    }

    /// False if the time is up.
    fn spin_past(&self, turn: u32) -> bool {
        let end = clock::now() + SPIN;
        loop {
            for _ in 0..LOOKS {
                if self.turn() != turn {
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::now() >= end {
                return false;
            }
        }
    }

    fn sleep_past(&self, turn: u32) {
        self.sleepers.fetch_add(1, SeqCst);
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.wake.wait_while(lock, |()| self.turn() == turn));
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
pub mod tests;
