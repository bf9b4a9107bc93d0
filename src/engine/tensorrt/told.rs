//! What a shim tells: facts of the machine, refusals, and how far a build is.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What a shim refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
}

/// The codes of the interface, as far as they make a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No driver, no device.
    Device,
    /// TensorRT is not there, or of another major version than the shim.
    Library,
    /// The build was given up, because that was asked for.
    Cancelled,
    /// Everything else: the message says what.
    Other,
}

/// What a machine has, as its shim tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Facts {
    /// CUDA version of the driver; empty if there is none.
    pub driver: String,
    /// CUDA version of the shim.
    pub cuda: String,
    /// GPUs.
    pub devices: i32,
    /// TensorRT that the shim was compiled for.
    pub header: String,
    /// TensorRT that is there, with its build number; empty if there is none.
    pub tensorrt: String,
    /// Name of the first GPU.
    pub gpu: String,
    /// Its compute capability.
    pub capability: String,
    /// True if it shares the memory of the CPU.
    pub integrated: bool,
    /// True if types come from the network alone (TensorRT 11), false if from flags of the build.
    pub typed: bool,
    /// Bytes of memory that it has.
    pub memory: i64,
}

/// How far a build is, written by the shim's threads; and whether it is to be given up, read by them.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<(String, i32, i32)>,
    cancelled: AtomicBool,
}

impl Progress {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub(super) fn write(&self, phase: String, step: i32, steps: i32) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (phase, step, steps);
    }

    /// Phase, step, steps.
    pub(super) fn read(&self) -> (String, i32, i32) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
