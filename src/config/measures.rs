//! Values that are numbers, durations and sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::remedy;
use super::section::Value;
use super::units::{parse_duration, parse_long_duration, parse_size, write_duration, write_size};

/// Every duration is at most this, so that a point in time plus a duration always exists.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Value<'_> {
    /// An integer within the bounds.
    pub(super) fn integer(&self, bounds: RangeInclusive<usize>) -> Option<usize> {
        self.integer_or(bounds, "")
    }

    /// An integer within the bounds, or `"off"`, which is `Some(None)`.
    pub(super) fn integer_or_off(&self, bounds: RangeInclusive<usize>) -> Option<Option<usize>> {
        let is_integer = matches!(self.value.get_ref(), DeValue::Integer(_));
        if !is_integer && self.is_off_or("an integer")? {
            return Some(None);
        }
        self.integer_or(bounds, " or \"off\"").map(Some)
    }

    /// An integer within the bounds; `or` is what else may stand there.
    fn integer_or(&self, bounds: RangeInclusive<usize>, or: &str) -> Option<usize> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            let digits = self.bare().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
            self.wrong_type_or(&format!("an integer{or}"), digits);
            return None;
        };
        let number = usize::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| bounds.contains(n));
        if number.is_none() {
            self.mistake(format_args!("is {integer}, but must be from {} to {}{or}", bounds.start(), bounds.end()));
        }
        number
    }

    /// A size in bytes within the bounds: `"64KiB"`, or a bare integer.
    pub(super) fn size(&self, bounds: RangeInclusive<usize>) -> Option<usize> {
        let (bytes, written) = match self.value.get_ref() {
            DeValue::Integer(integer) => {
                (u64::from_str_radix(integer.as_str(), integer.radix()).ok(), integer.to_string())
            }
            DeValue::String(_) => {
                let text = self.text()?;
                let bytes = parse_size(&text.value);
                if bytes.is_none() {
                    let advice = match remedy::size(&text.written) {
                        Some(size) => format!("write {} = {size}", self.key),
                        None => format!(
                            "write a whole number of bytes or of KiB, MiB or GiB, for example {} = {}",
                            self.key, self.example
                        ),
                    };
                    self.mistake(format_args!("is {:?}, which is no size: {advice}", text.written));
                    return None;
                }
                (bytes, format!("{:?}", text.written))
            }
            _ => {
                self.wrong_type(self.value, "a size");
                return None;
            }
        };
        let size = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|size| bounds.contains(size));
        if size.is_none() {
            let (least, most) = (write_size(*bounds.start() as u64), write_size(*bounds.end() as u64));
            self.mistake(format_args!("is {written}, but must be from {least} to {most}"));
        }
        size
    }

    /// A duration: `"30s"`.
    pub(super) fn duration(&self) -> Option<Duration> {
        if self.bare().is_some_and(|written| remedy::is_off(&written) && parse_duration(&written).is_none()) {
            self.mistake(format_args!("cannot be off: write for example {} = {}", self.key, self.example));
            return None;
        }
        self.any_duration(false)?
    }

    /// A duration, or `"off"`, which is `Some(None)`.
    pub(super) fn duration_or_off(&self) -> Option<Option<Duration>> {
        self.any_duration(true)
    }

    /// A duration within the bounds, which may be days: `"30d"`.
    pub(super) fn duration_within(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        if !self.is_string() {
            self.wrong_type_or("a duration", self.meant_duration(false));
            return None;
        }
        let text = self.text()?;
        let Some(duration) = parse_long_duration(&text.value) else {
            self.mistake(format_args!(
                "is {:?}, which is no duration: write a whole number of ms, s, m, h or d, for example {} = {}",
                text.written, self.key, self.example
            ));
            return None;
        };
        if !bounds.contains(&duration) {
            let [least, most] = [*bounds.start(), *bounds.end()].map(write_duration);
            self.mistake(format_args!("is {:?}, but must be from {least} to {most}", text.written));
            return None;
        }
        Some(duration)
    }

    fn any_duration(&self, may_be_off: bool) -> Option<Option<Duration>> {
        if !self.is_string() {
            self.wrong_type_or("a duration", self.meant_duration(may_be_off));
            return None;
        }
        let text = self.text()?;
        if text.value == "off" {
            return Some(None);
        }
        let meant = self.meant_duration(may_be_off);
        let Some(duration) = parse_duration(&text.value) else {
            let advice = match meant {
                Some(meant) => format!("write {} = {meant}", self.key),
                None => {
                    format!("write a whole number of ms, s, m or h, for example {} = {}", self.key, self.example)
                }
            };
            self.mistake(format_args!("is {:?}, which is no duration: {advice}", text.written));
            return None;
        };
        if duration.is_zero() || duration > DURATION_MAX {
            let meant = meant.map(|meant| format!(": write {} = {meant}", self.key)).unwrap_or_default();
            let most = write_duration(DURATION_MAX);
            self.mistake(format_args!("is {:?}, but must be from 1ms to {most}{meant}", text.written));
            return None;
        }
        Some(Some(duration))
    }

    /// What to write for a duration that is wrong.
    fn meant_duration(&self, may_be_off: bool) -> Option<String> {
        let written = self.bare()?;
        if remedy::is_off(&written) {
            return may_be_off.then(|| "\"off\"".to_owned());
        }
        remedy::duration(&written)
    }
}
