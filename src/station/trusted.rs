//! The pipeline that judges, and how far it can be trusted.

use crate::camera::Geometry;
use crate::pipeline::Pipeline;

/// A pipeline, and what went wrong with it.
pub(super) struct Trusted {
    pub(super) pipeline: Pipeline,
    /// False until the first frame, if the camera could not say beforehand what its frames are like.
    pub(super) settled: bool,
    pub(super) panics: u32,
    /// Pictures in a row that the engine failed on.
    pub(super) failures: u32,
    /// The last geometry that did not fit: it is refused without another try.
    pub(super) refused: Option<Geometry>,
}

impl Trusted {
    pub(super) fn new(pipeline: Pipeline, settled: bool) -> Self {
        Self { pipeline, settled, panics: 0, failures: 0, refused: None }
    }

    /// Another pipeline, of which nothing went wrong yet; returns the one before.
    pub(super) fn replace(&mut self, mut pipeline: Pipeline) -> Pipeline {
        pipeline.restart(); // it may have judged before
        let settled = self.settled;
        std::mem::replace(self, Self::new(pipeline, settled)).pipeline
    }
}
