//! Threads that live as long as the network and share each step's rows. The result is the same for every number of threads: a row
//! does not know who computes it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::plan::Plan;

/// Turns that a thread spins before it sleeps or yields: some microseconds, about the length of a step.
const SPINS: usize = 4000;

/// The threads of one network, the caller's among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What is to be run; taken by nobody, replaced by the next.
    job: Mutex<Job>,
    wake: Condvar,
    /// Counts the jobs, so that a thread sees a new one without the lock.
    generation: AtomicUsize,
    stop: AtomicBool,
    barrier: Barrier,
}

#[derive(Clone, Copy, Default)]
struct Job {
    generation: usize,
    plan: Option<Pass>,
}

/// A plan on its way to other threads.
#[derive(Clone, Copy)]
struct Pass {
    plan: *const Plan,
    base: *mut u8,
    input: *const [i8],
    parts: usize,
}

// SAFETY: the pointers are good until every thread has passed the last barrier of the job, and `Pool::run` waits for that.
unsafe impl Send for Pass {}

impl Pool {
    /// Starts `threads - 1` threads; the caller's own is the first.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |part: usize| {
            let shared = Arc::clone(&shared);
            let work = move || shared.serve(part);
            std::thread::Builder::new().name(format!("int8-{part}")).spawn(work).ok()
        };
        let workers = (1..threads).map_while(start).collect();
        Self { shared, workers }
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs a plan on one input and returns when it is done.
    pub fn run(&mut self, plan: &mut Plan, input: &[i8]) {
        let threads = self.threads();
        let pass = Pass { base: plan.base(), plan, input, parts: threads };
        if threads > 1 {
            let mut job = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            job.generation += 1;
            job.plan = Some(pass);
            self.shared.generation.store(job.generation, Ordering::Release);
            drop(job);
            self.shared.wake.notify_all();
        }
        // SAFETY: `plan` and `input` are borrowed until this returns, and the last barrier is behind every thread then.
        unsafe { self.shared.pass(pass, 0) };
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        drop(self.shared.job.lock());
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a thread that panicked has said so
        }
    }
}

impl Shared {
    /// The life of a thread.
    fn serve(&self, part: usize) {
        let mut done = 0;
        while let Some(job) = self.next(done) {
            done = job.generation;
            if let Some(pass) = job.plan {
                // SAFETY: the caller of `Pool::run` keeps the plan until this thread has passed the last barrier.
                unsafe { self.pass(pass, part) };
            }
        }
    }

    /// The next job after `done`; none at the end.
    fn next(&self, done: usize) -> Option<Job> {
        for _ in 0..SPINS {
            if self.generation.load(Ordering::Acquire) != done || self.stop.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if job.generation != done {
                return Some(*job);
            }
            job = self.wake.wait(job).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One thread's share of every step, all threads in step.
    ///
    /// # Safety
    /// The pass is that of a running [`Pool::run`], and each part is run once.
    unsafe fn pass(&self, pass: Pass, part: usize) {
        // SAFETY: the caller's.
        let (plan, input) = unsafe { (&*pass.plan, &*pass.input) };
        for step in plan.steps() {
            if pass.parts == 1 {
                plan.fence(step, pass.base, 0, 1);
            }
            // SAFETY: the barrier below keeps every thread in the same step; parts do not overlap.
            unsafe { step.run(plan.kernels(), pass.base, input, part, pass.parts) };
            self.barrier.wait(pass.parts);
        }
        if pass.parts == 1 {
            plan.unfence(pass.base);
        }
    }
}

/// A barrier that spins: steps take microseconds, and sleeping costs as much.
#[derive(Default)]
struct Barrier {
    arrived: AtomicUsize,
    passed: AtomicUsize,
}

impl Barrier {
    fn wait(&self, parts: usize) {
        if parts == 1 {
            return;
        }
        let turn = self.passed.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == parts {
            self.arrived.store(0, Ordering::Relaxed);
            self.passed.store(turn.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.passed.load(Ordering::Acquire) == turn {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}
