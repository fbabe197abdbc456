//! The part of rustix that `src/connection/watch.rs` calls, on the model's kernel. The crate's
//! root gives it the name `rustix`.

/// Epoll and the eventfd.
pub mod event {
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::sync::LazyLock;

    use super::io::Errno;

    #[derive(Debug, Clone, Copy)]
    pub struct EventfdFlags;

    impl EventfdFlags {
        pub const CLOEXEC: EventfdFlags = EventfdFlags;
    }

    pub fn eventfd(_: u32, _: EventfdFlags) -> Result<OwnedFd, Errno> {
        Ok(descriptor())
    }

    /// Any descriptor: there is one epoll and one eventfd in a model, and a socket says itself which it is.
    fn descriptor() -> OwnedFd {
        static ANY: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("/dev/null is there"));
        ANY.try_clone().expect("the system has descriptors").into()
    }

    /// Nobody waits with a timeout here.
    #[derive(Debug)]
    pub enum Timespec {}

    pub mod epoll {
        use std::ops::BitOr;
        use std::os::fd::OwnedFd;

        use super::descriptor;
        use crate::connection::socket::Socket;
        use crate::kernel::kernel;
        use crate::system_calls::io::Errno;

        #[derive(Debug, Clone, Copy)]
        pub struct CreateFlags;

        impl CreateFlags {
            pub const CLOEXEC: CreateFlags = CreateFlags;
        }

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct EventFlags(u8);

        impl EventFlags {
            pub const IN: EventFlags = EventFlags(1);
            pub const OUT: EventFlags = EventFlags(2);
            pub const ONESHOT: EventFlags = EventFlags(4);
        }

        impl BitOr for EventFlags {
            type Output = EventFlags;

            fn bitor(self, other: EventFlags) -> EventFlags {
                EventFlags(self.0 | other.0)
            }
        }

        #[derive(Debug, Clone, Copy)]
        pub struct EventData(u64);

        impl EventData {
            pub fn new_u64(data: u64) -> EventData {
                EventData(data)
            }

            pub fn u64(self) -> u64 {
                self.0
            }
        }

        #[derive(Debug)]
        pub struct Event {
            pub data: EventData,
        }

        /// What may be registered.
        pub trait Descriptor {
            fn arm(&self, data: EventData, flags: EventFlags, is_new: bool) -> Result<(), Errno>;
        }

        impl Descriptor for &OwnedFd {
            fn arm(&self, _: EventData, flags: EventFlags, is_new: bool) -> Result<(), Errno> {
                assert!(is_new && flags == EventFlags::IN, "the eventfd is registered once, and stays");
                Ok(())
            }
        }

        impl Descriptor for &Socket {
            fn arm(&self, data: EventData, flags: EventFlags, is_new: bool) -> Result<(), Errno> {
                assert!(flags == EventFlags::OUT | EventFlags::ONESHOT, "the model knows no other way to wait");
                match self.watched(data.0, is_new) {
                    Some(Ok(())) => Ok(()),
                    Some(Err(())) => Err(Errno::NOMEM),
                    None if is_new => Err(Errno::EXIST),
                    None => Err(Errno::NOENT),
                }
            }
        }

        pub fn create(_: CreateFlags) -> Result<OwnedFd, Errno> {
            Ok(descriptor())
        }

        pub fn add(_: &OwnedFd, what: impl Descriptor, data: EventData, flags: EventFlags) -> Result<(), Errno> {
            what.arm(data, flags, true)
        }

        pub fn modify(_: &OwnedFd, what: impl Descriptor, data: EventData, flags: EventFlags) -> Result<(), Errno> {
            what.arm(data, flags, false)
        }

        pub fn wait(_: &OwnedFd, events: &mut Vec<Event>, timeout: Option<&super::Timespec>) -> Result<usize, Errno> {
            assert!(timeout.is_none(), "a timeout would hide a wake-up that is missing");
            let (sockets, woken) = kernel().wait();
            events.extend(sockets.into_iter().chain(woken.then_some(0)).map(|data| Event { data: EventData(data) }));
            Ok(events.len())
        }
    }
}

pub mod buffer {
    pub fn spare_capacity<T>(buffer: &mut Vec<T>) -> &mut Vec<T> {
        buffer
    }
}

pub mod io {
    use std::os::fd::OwnedFd;

    use crate::kernel::kernel;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Errno {
        INTR,
        NOENT,
        EXIST,
        NOMEM,
    }

    impl From<Errno> for std::io::Error {
        fn from(error: Errno) -> std::io::Error {
            std::io::Error::other(format!("{error:?}"))
        }
    }

    /// Only the eventfd is ever written to.
    pub fn write(_: &OwnedFd, _: &[u8]) -> Result<usize, Errno> {
        kernel().wake();
        Ok(8)
    }
}
