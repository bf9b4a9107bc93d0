//! What the operator asks of a running station, and what it answers: a JSON object a line each way.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::Id;

/// What a station is asked.
///
/// ```
/// use fcam::store::Id;
/// use fcam::trial::Request;
///
/// // What goes over the socket of a running station.
/// let line = r#"{"activate":"lid.7"}"#;
/// assert_eq!(serde_json::from_str::<Request>(line)?, Request::Activate(Id { name: "lid".into(), counter: 7 }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Take this bundle.
    Activate(Id),
    /// Give the active bundle up and take the one before it.
    Rollback,
}

/// What comes of it, step by step.
///
/// ```
/// use fcam::store::Id;
/// use fcam::trial::Reply;
///
/// let bundle = Id { name: "lid".into(), counter: 7 };
/// let proving = Reply::Proving { bundle: bundle.clone() };
/// assert_eq!(proving.text(true), "{\"bundle\":\"lid.7\",\"event\":\"proving\"}\n");
/// assert!(!proving.is_final() && Reply::Passed { bundle }.is_final());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Reply {
    /// It is loaded and proven, while the other one goes on.
    Proving {
        /// The bundle that is proven.
        bundle: Id,
    },
    /// It judges now; its first parts are watched.
    Running {
        /// The bundle that judges.
        bundle: Id,
        /// Parts for which it is watched.
        watched: u64,
    },
    /// Its first parts are through.
    Passed {
        /// The bundle that stays.
        bundle: Id,
    },
    /// It is proven and active, and another job of the PLC is in force: it judges when the PLC asks for its own, and
    /// after a start.
    Waiting {
        /// The bundle that waits.
        bundle: Id,
        /// Its job.
        job: u16,
    },
    /// It was given up; what ran before goes on.
    Failed {
        /// The bundle that was given up.
        bundle: Id,
        /// Why.
        reason: String,
    },
    /// Nothing was done.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Reply {
    /// True for the last word: the request is answered.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Proving { .. } | Self::Running { .. })
    }

    /// For people, or as JSON.
    pub fn text(&self, as_json: bool) -> String {
        if as_json {
            return format!("{}\n", json!(self));
        }
        match self {
            Self::Proving { bundle } => format!("{bundle} is being proven on this machine\n"),
            Self::Running { bundle, watched } => {
                format!("{bundle} runs, on trial: its first {watched} parts are watched and not all of them came yet\n")
            }
            Self::Passed { bundle } => format!("{bundle} runs\n"),
            Self::Waiting { bundle, job } => {
                format!("{bundle} is active, and another job is in force: it judges when the PLC asks for job {job}\n")
            }
            Self::Failed { bundle, reason } => format!("{bundle} was given up: {reason}\n"),
            Self::Refused { reason } => format!("refused: {reason}\n"),
        }
    }
}
