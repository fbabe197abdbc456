//! Reloads of a gateway: another configuration is written, and what came of it read.

use std::fs;

use rustix::process::Signal;

use super::Gateway;

/// A listener on a free port.
pub(crate) const LISTEN: &str = "[[listen]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\n";

/// An endpoint with these lines.
pub(crate) fn endpoint(path: &str, lines: &str) -> String {
    format!("[[endpoint]]\npath = \"{path}\"\n{lines}\n")
}

/// A gateway whose configuration is changed while it runs.
pub(crate) struct Reloads<'g> {
    pub(crate) gateway: &'g Gateway,
    pub(crate) count: usize,
}

impl<'g> Reloads<'g> {
    pub(crate) fn of(gateway: &'g Gateway) -> Reloads<'g> {
        Reloads { gateway, count: 0 }
    }

    /// Writes another configuration, whole but for `[admin]`.
    pub(crate) fn write(&self, config: &str) {
        let no_admin = if config.contains("[admin]") { "" } else { "\n[admin]\naddress = \"off\"\n" };
        let text = format!("{config}{no_admin}");
        // At once: a reload may be reading it.
        fs::write(self.gateway.file("next.toml"), text).unwrap();
        fs::rename(self.gateway.file("next.toml"), self.gateway.file("wsgate.toml")).unwrap();
    }

    /// Reloads what is written, and gives the line that says what came of it.
    pub(crate) fn reload(&mut self) -> String {
        self.count += 1;
        self.gateway.signal(Signal::HUP);
        self.gateway.wait_for_logs(" reload: ", self.count).pop().unwrap()
    }

    /// Puts a configuration in force.
    pub(crate) fn put(&mut self, config: &str) -> String {
        self.write(&format!("{LISTEN}{config}"));
        let line = self.reload();
        assert!(!line.contains("reload: failed"), "{line}");
        line
    }

    /// Expects that this configuration is refused, and with these words.
    pub(crate) fn refuse(&mut self, config: &str, words: &str) {
        self.write(config);
        let line = self.reload();
        assert!(line.contains("reload: failed, and nothing has changed: ") && line.contains(words), "{config}\n{line}");
    }
}
