//! What the audit has to know of the model that is running. Like the kernel, it is found through thread-locals.

use std::cell::Cell;

use crate::config::QueueSettings;

/// More bytes than the control frames that an outbox has at a time in any model, and fewer than a message of one.
pub const CONTROLS: usize = 19;

thread_local! {
    static BOUNDS: Cell<Option<QueueSettings>> = const { Cell::new(None) };
    static IS_HOLDING: Cell<bool> = const { Cell::new(false) };
}

/// The bounds that hold whenever the lock is free.
pub fn bounds() -> Option<QueueSettings> {
    BOUNDS.get()
}

pub fn set_bounds(bounds: QueueSettings) {
    BOUNDS.set(Some(bounds));
    IS_HOLDING.set(false);
}

/// Whether frames are held back at the moment, to be written with the next flush.
pub fn is_holding() -> bool {
    IS_HOLDING.get()
}

pub fn set_holding(is_holding: bool) {
    IS_HOLDING.set(is_holding);
}
