//! Stands in the place of the gateway's `src/sync/`: loom's mutex and condition variable, with an audit of what a mutex
//! guards each time that it is released. The signal around them is the gateway's own.
//!
//! `Arc` is std's: `self: &Arc<Self>` is a method receiver for no other, and a model sees with
//! `strong_count` at its end what is held for ever.

#[path = "../../src/sync/signal.rs"]
mod signal;

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
pub use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

pub use signal::Signal;

/// What stands in `src/sync/lock.rs` there.
mod lock {
    pub use super::{Condvar, Mutex, MutexGuard};
}

/// What must be true whenever nobody holds the lock.
pub trait Audit {
    /// Panics where it is not.
    fn audit(&self) {}
}

impl<K, V> Audit for HashMap<K, V> {}
impl<T> Audit for Vec<T> {}

#[derive(Debug)]
pub struct Mutex<T> {
    data: loom::sync::Mutex<T>,
    audit: fn(&T),
}

impl<T: Audit> Mutex<T> {
    pub fn new(data: T) -> Mutex<T> {
        Mutex { data: loom::sync::Mutex::new(data), audit: T::audit }
    }
}

impl<T: Audit + Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> Mutex<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { data: Some(data), audit: self.audit }
    }

    /// What it guards, without a lock: for the end of a model.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    /// Empty only while a condition variable has what was in it.
    data: Option<loom::sync::MutexGuard<'a, T>>,
    audit: fn(&T),
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.data.as_ref().expect("the guard is not waiting")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.data.as_mut().expect("the guard is not waiting")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(data) = &self.data
            && !std::thread::panicking()
        {
            (self.audit)(data);
        }
    }
}

#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let audit = guard.audit;
        audit(&guard);
        let data = guard.data.take().expect("the guard is not waiting");
        MutexGuard { data: Some(self.0.wait(data).unwrap_or_else(PoisonError::into_inner)), audit }
    }

    /// Waits until it is notified, and never less: a timeout would hide a wake-up that is missing.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, _: Duration) -> MutexGuard<'a, T> {
        self.wait(guard)
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
