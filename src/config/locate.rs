//! In: the [locate] section. Out: every problem in it, and the part to look for.

use super::raw::Locate;
use crate::bundle::Bundle;
use crate::camera::picture;
use crate::locate::{MAX_SHIFT, MAX_TURN, Reach, Template};
use crate::pipeline;
use crate::preprocess::Layout;

/// Reads the template, if there is one.
pub(super) fn read(raw: &Locate, problems: &mut Vec<String>) -> Option<Template> {
    let Locate { template, shift, turn, agreement } = raw;
    for (key, value, most) in [("shift", *shift, MAX_SHIFT), ("turn", *turn, MAX_TURN), ("agreement", *agreement, 1.0)]
    {
        if !(0.0..=most).contains(&value) {
            problems.push(format!("locate.{key} = {value} is outside 0..={most}"));
        }
    }
    let path = template.as_ref()?;
    let shown = path.display().to_string();
    let picture = match std::fs::read(path) {
        Ok(bytes) => picture::decode(&bytes, &shown).map_err(|error| error.to_string()),
        Err(error) => Err(format!(
            "cannot read {shown}: {error}; it is a picture of a good part in the ROI, `fcam locate --teach` makes one of several"
        )),
    };
    match picture {
        Ok(picture) => Some(Template { picture, reach: Reach { shift: *shift, turn: *turn, agreement: *agreement } }),
        Err(problem) => {
            problems.push(format!("locate.template: {problem}"));
            None
        }
    }
}

/// Why parts cannot be looked for with this bundle in this layout, which is known before a frame is there.
pub(super) fn misfit(template: Option<&Template>, bundle: &Bundle, layout: &Layout) -> Option<String> {
    let own = bundle.manifest().locate.is_some();
    let tiles = layout.count();
    let problem = match template {
        Some(_) if own => Err(pipeline::TWO_TEMPLATES.into()),
        Some(template) => template.locator(bundle.shape().width, bundle.shape().height).map(drop),
        None => Ok(()),
    };
    let several = (tiles > 1 && (own || template.is_some())).then(|| pipeline::Error::Places { tiles }.to_string());
    problem.err().map(|problem| format!("locate.template: {problem}")).or(several)
}
