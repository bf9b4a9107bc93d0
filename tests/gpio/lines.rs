//! Lines that remember every change with its time, and that can be cut.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fcam::chip;
use fcam::clock::{self, Timestamp};
use fcam::sink::gpio::{Levels, Open, Role, Write};

#[derive(Debug, Clone, Default)]
pub struct Lines {
    edges: Arc<Mutex<Vec<(Timestamp, Levels)>>>,
    pub cut: Arc<AtomicBool>,
}

impl Lines {
    pub fn open(&self) -> Open {
        let lines = self.clone();
        Box::new(move || {
            lines.check("request")?;
            lines.keep(Levels::SAFE);
            let lines = lines.clone();
            Ok(Box::new(move |levels| {
                // What is left of the lines still shows it.
                lines.keep(levels);
                lines.check("drive")
            }) as Write)
        })
    }

    fn check(&self, action: &'static str) -> Result<(), chip::Error> {
        let source = gpiocdev::Error::from(std::io::Error::from_raw_os_error(19)); // ENODEV
        if self.cut.load(Relaxed) { Err(chip::Error::Line { action, name: "X".into(), source }) } else { Ok(()) }
    }

    fn keep(&self, levels: Levels) {
        self.edges.lock().unwrap().push((clock::now(), levels));
    }

    /// Everything so far.
    pub fn edges(&self) -> Vec<(Timestamp, Levels)> {
        self.edges.lock().unwrap().clone()
    }

    pub fn now(&self) -> Levels {
        self.edges.lock().unwrap().last().unwrap().1
    }

    /// Waits until the lines are like this.
    pub fn until(&self, wanted: impl Fn(Levels) -> bool) {
        let end = clock::now() + Duration::from_secs(10);
        while !wanted(self.now()) {
            assert!(clock::now() < end, "the lines stay at {:?}", self.now());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until a line has fallen so many times: no pulse is missed, however busy the machine is.
    pub fn until_fallen(&self, role: Role, times: usize) {
        let end = clock::now() + Duration::from_secs(10);
        let fell = |pair: &[(Timestamp, Levels)]| pair[0].1.get(role) && !pair[1].1.get(role);
        while self.edges.lock().unwrap().windows(2).filter(|pair| fell(pair)).count() < times {
            assert!(clock::now() < end, "{role:?} has not fallen {times} times");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Each time a line rose, and fell again if it did.
    pub fn pulses(&self, role: Role) -> Vec<(Timestamp, Option<Timestamp>)> {
        let mut pulses: Vec<(Timestamp, Option<Timestamp>)> = vec![];
        let mut high = false;
        for (at, levels) in self.edges() {
            match (high, levels.get(role)) {
                (false, true) => pulses.push((at, None)),
                (true, false) => pulses.last_mut().unwrap().1 = Some(at),
                _ => {}
            }
            high = levels.get(role);
        }
        pulses
    }
}
