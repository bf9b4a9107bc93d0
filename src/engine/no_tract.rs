//! What stands in for tract in a program that was built without the feature `tract`: no network runs on it.

use super::{Error, Shape};
use crate::preprocess::Tensor;

pub(super) enum Network {}

impl Network {
    pub(super) fn load(_: &[u8], quantised: bool, _: [usize; 2], _: Shape, _: usize) -> Result<Self, Error> {
        let cure = if quantised {
            "set engine.backend = \"auto\", which computes this int8 network in integers"
        } else {
            "export an int8 bundle, or build fcam with the feature `tract` (FCAM_FEATURES=\"board tract\" ./dev cross)"
        };
        let reason = format!("this fcam was built without tract, which computes networks in float: {cure}");
        Err(Error::Unavailable { backend: "tract", reason })
    }

    pub(super) fn describe(&self) -> String {
        match *self {}
    }

    pub(super) fn run(&mut self, _: &Tensor, _: &mut [f32], _: &mut [f32]) -> Result<(), Error> {
        match *self {}
    }
}
