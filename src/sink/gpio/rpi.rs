//! The lamp on hardware PWM of a Raspberry Pi: its brightness is a duty cycle, its flash the time for which the PWM
//! runs. The one file that knows rppal, whose author retired it in July 2025. Compiled with the feature `rpi`, and
//! never run on hardware by us.

use rppal::pwm::{Channel, Polarity, Pwm};

use super::Pulsed;
use crate::chip::Error;

/// A lamp.
pub(super) struct Lamp {
    pwm: Pwm,
    name: String,
}

impl Lamp {
    /// Sets up the channel, dark.
    pub(super) fn open(pulsed: Pulsed) -> Result<Self, Error> {
        let Pulsed { channel, hz, duty } = pulsed;
        let name = format!("PWM {channel}");
        let known = if channel == 0 { Channel::Pwm0 } else { Channel::Pwm1 };
        let pwm = Pwm::with_frequency(known, f64::from(hz), f64::from(duty), Polarity::Normal, false);
        let pwm = pwm.map_err(|error| failed("open", &name, &error))?;
        Ok(Self { pwm, name })
    }

    /// Lights it, or not.
    pub(super) fn write(&mut self, lit: bool) -> Result<(), Error> {
        let done = if lit { self.pwm.enable() } else { self.pwm.disable() };
        done.map_err(|error| failed("switch", &self.name, &error))
    }
}

fn failed(action: &'static str, name: &str, error: &rppal::pwm::Error) -> Error {
    let source = gpiocdev::Error::InvalidArgument(error.to_string());
    Error::Line { action, name: name.into(), source }
}
