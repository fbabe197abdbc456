//! Stands in the place of the gateway's `src/sync.rs`: loom's mutex and condition variable, with an
//! audit of what a mutex guards each time that it is released.
//!
//! `Arc` is std's: `self: &Arc<Self>` is a method receiver for no other, and a model sees with
//! `strong_count` at its end what is held for ever.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::LockResult;
pub use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What must be true whenever nobody holds the lock.
pub trait Audit {
    /// Panics where it is not.
    fn audit(&self) {}
}

impl<K, V> Audit for HashMap<K, V> {}
impl<T> Audit for Vec<T> {}

#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T: Audit> Mutex<T> {
    pub fn new(data: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(data))
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.lock() {
            Ok(guard) => Ok(MutexGuard(Some(guard))),
            Err(poisoned) => Err(PoisonError::new(MutexGuard(Some(poisoned.into_inner())))),
        }
    }

    /// What it guards, without a lock: for the end of a model.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empty only while a condition variable has what was in it.
#[derive(Debug)]
pub struct MutexGuard<'a, T: Audit>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T: Audit> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the guard is not waiting")
    }
}

impl<T: Audit> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the guard is not waiting")
    }
}

impl<T: Audit> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(guard) = &self.0
            && !std::thread::panicking()
        {
            guard.audit();
        }
    }
}

#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    /// Waits until it is notified, and never less: a timeout would hide a wake-up that is missing.
    pub fn wait_timeout<'a, T: Audit>(
        &self,
        mut guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        guard.audit();
        let inner = guard.0.take().expect("the guard is not waiting");
        let inner = self.0.wait(inner).unwrap_or_else(PoisonError::into_inner);
        Ok((MutexGuard(Some(inner)), ()))
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
