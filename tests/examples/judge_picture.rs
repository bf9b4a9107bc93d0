//! Judges one picture and draws what was found: `cargo run --example judge_picture -- PICTURE [BUNDLE]`.

use std::error::Error;
use std::path::{Path, PathBuf};

use fcam::bundle::Bundle;
use fcam::camera::{Frame, picture};
use fcam::clock;
use fcam::overlay::{self, Overlay};
use fcam::pipeline::{Pipeline, PipelineOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let picture = words.next().ok_or("which picture? cargo run --example judge_picture -- PICTURE [BUNDLE]")?;
    println!("{}", judge(&picture, words.next().as_deref(), Path::new("judged.png"))?);
    Ok(())
}

/// Judges `picture` with a bundle, the embedded one if there is none, draws it to `drawn` and says the verdict in
/// words.
pub fn judge(picture: &Path, bundle: Option<&Path>, drawn: &Path) -> Result<String, Box<dyn Error>> {
    // Every byte of a bundle is checked here, and every size when the pipeline is built: nothing after that can fail.
    let bundle = Bundle::load(bundle, &[])?;
    let decoded = picture::decode(&std::fs::read(picture)?, &picture.display().to_string())?;
    let mut pipeline = Pipeline::new(&bundle, decoded.geometry, PipelineOptions::default())?;

    let frame = Frame::new(0, clock::now(), decoded.geometry, &decoded.bytes)?;
    let inspection = pipeline.inspect(&frame);
    let mut said = overlay::label(&inspection.outcome, &bundle.class_names());
    for region in inspection.outcome.regions() {
        let fcam::mask::Region { x, y, width, height, area_px, .. } = region;
        said += &format!("\n{width} x {height} pixels at ({x}, {y}), {area_px:.0} of them marked");
    }

    let mut overlay = Overlay::default();
    let pixels = overlay.draw(&frame, &inspection.mask, &inspection.outcome, &bundle.class_names());
    let (width, height) = (decoded.geometry.width, decoded.geometry.height);
    image::save_buffer(drawn, pixels, width, height, image::ExtendedColorType::Rgb8)?;
    Ok(said)
}
