//! The bounds of numbers and sizes that several tables have.

use std::ops::RangeInclusive;

pub(super) const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
pub(super) const PER_SECOND: RangeInclusive<usize> = 1..=1_000_000_000;
pub(super) const BYTES_PER_SECOND: RangeInclusive<usize> = 1 << 10..=64 << 30;
pub(super) const MAX_MESSAGE: RangeInclusive<usize> = 1..=1 << 30;
pub(super) const QUEUE_MESSAGES: RangeInclusive<usize> = 2..=1 << 24;
pub(super) const QUEUE_BYTES: RangeInclusive<usize> = 1 << 10..=64 << 30;
