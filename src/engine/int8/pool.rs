//! Threads that live as long as the network and share each step's rows. In: a plan, and the camera's tensor for each run. Out: the plan's outputs. The
//! result is the same for every number of threads: a row does not know who computes it.
//!
//! # What keeps the threads apart
//! - Every thread owns a share of the plan and of its arena, so that neither is freed while one of them may still compute, in whatever order things
//!   are dropped. The caller's tensor is read by the caller alone.
//! - All go through the same barriers, one after each step, whatever happens in a step. A panic is caught in its step, makes the others leave out what is
//!   left to compute, and goes on in the caller when all have passed the last barrier. Where a thread would leave in between all the same, the process ends.
//! - Nothing is kept from a run that failed: the next one writes every tensor anew.
//!
//! # Waiting
//! A thread that waits spins for [`SPIN`] and then sleeps, so that a stalled core costs the others no processor time, and leaves theirs to the threads that
//! capture and actuate. What that costs is measured in PERFORMANCE.md.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::plan::Plan;
use super::step::Step;
use crate::clock;

/// So long a thread spins before it sleeps: about what sleeping and waking up take, so that waiting never costs more than twice the best choice.
const SPIN: Duration = Duration::from_micros(50);

/// Looks at what is waited for between two looks at the clock.
const LOOKS: u32 = 16;

/// A plan and the threads that compute it, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What all threads of a pool know.
struct Shared {
    plan: Plan,
    /// Threads that share each step.
    parts: usize,
    /// Advances with each run, and once more at the end.
    start: Turn,
    /// The pool is dropped.
    stop: AtomicBool,
    barrier: Barrier,
    failure: Failure,
    #[cfg(test)]
    sabotage: tests::Sabotage,
}

impl Pool {
    /// Starts `threads - 1` threads, whose priority is the caller's; the caller's own is the first. An error of the system leaves none behind.
    pub fn new(plan: Plan, threads: usize) -> std::io::Result<Self> {
        let shared = Shared {
            plan,
            parts: threads.max(1),
            start: Turn::default(),
            stop: AtomicBool::new(false),
            barrier: Barrier::default(),
            failure: Failure::default(),
            #[cfg(test)]
            sabotage: tests::Sabotage::default(),
        };
        let mut pool = Self { shared: Arc::new(shared), workers: Vec::new() };
        for part in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("int8-{part}"));
            pool.workers.push(thread.spawn(move || shared.serve(part))?);
        }
        Ok(pool)
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.shared.parts
    }

    /// What is computed.
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Runs the plan on one input and returns when it is done. A step's panic on any thread is the caller's, once no thread computes any more; the pool
    /// can be used again.
    pub fn run(&mut self, input: &[i8]) {
        #[cfg(test)]
        self.shared.sabotage.arm();
        self.shared.start.advance();
        self.shared.pass(0, input);
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
        self.shared.stop.store(true, Relaxed);
        self.shared.start.advance();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // it ends in no other way than by `stop`
        }
    }
}

impl Shared {
    /// The life of a thread.
    fn serve(&self, part: usize) {
        // A run ends when this thread has passed its last barrier, so no turn is missed.
        for run in 0.. {
            self.start.wait_past(run);
            if self.stop.load(Relaxed) {
                return;
            }
            self.pass(part, &[]);
        }
    }

    /// One thread's share of every step, all threads in step. Each part of a run is passed once.
    fn pass(&self, part: usize, input: &[i8]) {
        let all = AbortOnUnwind;
        for step in self.plan.steps() {
            if !self.failure.is_there() {
                let work = AssertUnwindSafe(|| self.compute(step, part, input));
                catch_unwind(work).unwrap_or_else(|panic| self.failure.keep(panic));
            }
            self.barrier.wait(self.parts);
        }
        if self.parts == 1 {
            self.plan.unfence();
        }
        std::mem::forget(all);
    }

    fn compute(&self, step: &Step, part: usize, input: &[i8]) {
        #[cfg(test)]
        self.sabotage.strike(&self.plan, step, part);
        if self.parts == 1 {
            self.plan.fence(step, 0, 1); // more threads would need a fence each, and there is one for the process
        }
        // SAFETY: the plan's own arena. Each thread has a part of its own and goes through the steps in order; a barrier after each one keeps all threads in
        // the same step and orders their memory. Between two runs they wait for `start`, and no output is borrowed while `Pool::run` has the pool.
        unsafe { step.run(self.plan.kernels(), self.plan.base(), input, part, self.parts) };
    }
}

/// Ends the process when it is dropped: a thread that left the others in the middle of a run would have them wait for ever, and nobody would know who still
/// writes.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        log::error!("a thread of the int8 engine was about to leave the others: the process ends");
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

/// Lets no thread go on before all have come. What any of them wrote before it is there for all of them behind it.
#[derive(Default)]
struct Barrier {
    arrived: AtomicUsize,
    turn: Turn,
}

impl Barrier {
    fn wait(&self, parts: usize) {
        let turn = self.turn.now(); // it does not advance without this thread
        if self.arrived.fetch_add(1, AcqRel) + 1 < parts {
            return self.turn.wait_past(turn);
        }
        self.arrived.store(0, Relaxed); // seen by all, since they come again only behind this turn
        self.turn.advance();
    }
}

/// A count that threads wait for. What is written before it advances is there for who has seen it advance.
#[derive(Default)]
struct Turn {
    count: AtomicUsize,
    sleepers: AtomicUsize,
    /// Held between a sleeper's last look at the count and its sleep.
    lock: Mutex<()>,
    wake: Condvar,
}

impl Turn {
    fn now(&self) -> usize {
        self.count.load(Acquire)
    }

    /// Sequentially consistent, as `sleep_past` is: either this sees the sleeper, or the sleeper sees the new count.
    fn advance(&self) {
        self.count.fetch_add(1, SeqCst);
        if self.sleepers.load(SeqCst) > 0 {
            drop(self.lock.lock());
            self.wake.notify_all();
        }
    }

    fn wait_past(&self, count: usize) {
        if !self.spin_past(count) {
            self.sleep_past(count);
        }
    }

    /// False if the time is up.
    fn spin_past(&self, count: usize) -> bool {
        let end = clock::now() + SPIN;
        loop {
            for _ in 0..LOOKS {
                if self.now() != count {
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::now() >= end {
                return false;
            }
        }
    }

    fn sleep_past(&self, count: usize) {
        self.sleepers.fetch_add(1, SeqCst);
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.wake.wait_while(lock, |()| self.count.load(SeqCst) == count));
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
pub mod tests;
