//! What stands in for the shim in a program that was built without the feature `tensorrt`: none can be opened.

use std::path::Path;

use super::told::{Facts, Progress, Refusal};
use crate::engine::Shape;

#[derive(Debug)]
pub(super) enum Shim {}

impl Shim {
    pub(super) fn open(_: &Path) -> Result<&'static Self, String> {
        Err("this fcam was built without TensorRT; the feature `tensorrt` has it".into())
    }

    pub(super) fn path(&self) -> &Path {
        match *self {}
    }

    pub(super) fn probe(&self) -> (Facts, Result<(), Refusal>) {
        match *self {}
    }

    pub(super) fn build(&self, _: &[u8], _: bool, _: &Progress) -> Result<Vec<u8>, Refusal> {
        match *self {}
    }

    pub(super) fn load(&'static self, _: &[u8], _: Shape) -> Result<Session, Refusal> {
        match *self {}
    }
}

pub(super) enum Session {}

impl Session {
    pub(super) fn zero_copy(&self) -> bool {
        match *self {}
    }

    pub(super) fn graph(&self) -> bool {
        match *self {}
    }

    pub(super) fn input(&mut self) -> &mut [f32] {
        match *self {}
    }

    pub(super) fn run(&mut self) -> Result<(), Refusal> {
        match *self {}
    }

    pub(super) fn logits(&self) -> &[f32] {
        match *self {}
    }

    pub(super) fn map(&self) -> &[f32] {
        match *self {}
    }
}
