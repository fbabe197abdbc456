//! How much memory the process uses that it could give back: anonymous memory, and in a control group of its own also
//! what the kernel keeps for its sockets. No page cache. What stands in the files is read by pure functions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// What is to be read.
#[derive(Debug)]
pub struct Memory {
    sockets: Option<(Version, PathBuf)>,
}

/// Of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// `memory.kmem.tcp.usage_in_bytes` has the sockets.
    V1,
    /// `sock` in `memory.stat` has them.
    V2,
}

impl Memory {
    /// That of this process, and of its control group if nobody else is in it.
    pub fn of_process() -> Memory {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = std::process::id().to_string();
        let sockets = group(&groups).and_then(|(version, path)| {
            let (root, file) = match version {
                Version::V1 => (Path::new(ROOT).join("memory"), "memory.kmem.tcp.usage_in_bytes"),
                Version::V2 => (PathBuf::from(ROOT), "memory.stat"),
            };
            // In a container the group can be at the root, whatever its path is outside.
            let places = [root.join(path.trim_start_matches('/')), root];
            let group = places.into_iter().find(|group| group.join(file).is_file())?;
            let members = fs::read_to_string(group.join("cgroup.procs")).ok()?;
            members.lines().eq([own.as_str()]).then(|| (version, group.join(file)))
        });
        Memory { sockets }
    }

    /// How many bytes are used now.
    ///
    /// # Errors
    /// A file cannot be read, or is not as the kernel writes it.
    pub fn used(&self) -> io::Result<u64> {
        let odd = || io::Error::other("/proc/self/status has no RssAnon");
        let anonymous = anonymous(&fs::read_to_string("/proc/self/status")?).ok_or_else(odd)?;
        let Some((version, file)) = &self.sockets else { return Ok(anonymous) };
        // A group that has gone, or that never counted sockets, has none.
        let sockets = fs::read_to_string(file).ok().and_then(|text| version.sockets(&text)).unwrap_or(0);
        Ok(anonymous + sockets)
    }
}

/// From `/proc/self/status`, in bytes.
fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// From `/proc/self/cgroup`: the group that counts memory. Where both versions are mounted, that is the one of v1.
fn group(groups: &str) -> Option<(Version, &str)> {
    let parts = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let v1 = parts().find(|(controllers, _)| controllers.split(',').any(|controller| controller == "memory"));
    let v2 = || parts().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| (Version::V2, path));
    v1.map(|(_, path)| (Version::V1, path)).or_else(v2)
}

impl Version {
    fn sockets(self, text: &str) -> Option<u64> {
        match self {
            Version::V1 => text.trim().parse().ok(),
            Version::V2 => text.lines().find_map(|line| line.strip_prefix("sock "))?.trim().parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l13_anonymous_memory_is_read_from_status() {
        let status = "Name:\twsgate\nVmRSS:\t   20480 kB\nRssAnon:\t    8192 kB\nRssFile:\t   12288 kB\n";
        assert_eq!(anonymous(status), Some(8 << 20));
        for odd in ["", "RssAnon:\t8192\n", "RssAnon:\tx kB\n", "RssAnon:\t18446744073709551615 kB\n"] {
            assert_eq!(anonymous(odd), None, "{odd:?}");
        }
        assert!(Memory::of_process().used().unwrap() > 0);
    }

    #[test]
    fn l13_the_group_is_that_of_the_memory_controller() {
        let v2 = "0::/system.slice/wsgate.service\n";
        assert_eq!(group(v2), Some((Version::V2, "/system.slice/wsgate.service")));
        let v1 =
            "12:pids:/system.slice/wsgate.service\n4:memory:/system.slice/wsgate.service\n1:name=systemd:/x\n0::/y\n";
        assert_eq!(group(v1), Some((Version::V1, "/system.slice/wsgate.service")));
        assert_eq!(group("3:cpu,memory:/a:b\n"), Some((Version::V1, "/a:b")));
        assert_eq!(group("2:cpu:/\n"), None);
        assert_eq!(group(""), None);
    }

    #[test]
    fn l13_sockets_are_read_from_both_kinds_of_groups() {
        let stat = "anon 8388608\nfile 4096\nkernel_stack 163840\nsock 1048576\nshmem 0\n";
        assert_eq!(Version::V2.sockets(stat), Some(1 << 20));
        assert_eq!(Version::V2.sockets("anon 1\nsockets 2\n"), None);
        assert_eq!(Version::V1.sockets("2097152\n"), Some(2 << 20));
        assert_eq!(Version::V1.sockets("max\n"), None);
    }
}
