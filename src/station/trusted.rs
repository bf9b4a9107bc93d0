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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bundle::Bundle;
    use crate::camera::{Frame, PixelFormat};
    use crate::drift::{DriftOptions, LEAST_PARTS};
    use crate::pipeline::PipelineOptions;

    /// What was usual or had changed while a pipeline judged says nothing of the parts for which it is taken again.
    #[test]
    fn a_pipeline_that_judges_again_begins_anew() {
        let bundle = Bundle::embedded().unwrap();
        let geometry = Geometry::packed(64, 64, PixelFormat::Gray8).unwrap();
        let drift = Some(DriftOptions { learn: LEAST_PARTS, blind: false, ..DriftOptions::default() });
        let options = PipelineOptions { drift, score_threshold: Some(1.0), ..PipelineOptions::default() };
        let build = || Pipeline::new(&bundle, geometry, options.clone()).unwrap();
        let show = |pipeline: &mut Pipeline, light: usize, parts: u64| {
            let bytes: Vec<u8> = (0..geometry.frame_bytes()).map(|at| (light + at * 5 % 40) as u8).collect();
            for part in 0..parts {
                pipeline.inspect(&Frame::new(part, Duration::ZERO, geometry, &bytes).unwrap());
            }
        };
        let mut before = build();
        show(&mut before, 150, u64::from(LEAST_PARTS));
        show(&mut before, 100, 10);
        assert!(before.drift().is_some());
        let mut trusted = Trusted::new(build(), true);
        trusted.replace(before);
        assert_eq!(trusted.pipeline.drift(), None);
        show(&mut trusted.pipeline, 100, 100);
        assert_eq!(trusted.pipeline.drift(), None, "the light is usual to it");
    }
}
