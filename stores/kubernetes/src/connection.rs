//! The connections of one store, and what they are for.

pub(crate) use kube_access::{Connection, cause};

use crate::settings::Settings;

pub(crate) struct Connections {
    settings: Settings,
    opened: kube_access::Connections,
}

impl Connections {
    pub(crate) fn new(settings: Settings) -> Self {
        let opened = kube_access::Connections::new(settings.access.clone());
        Self { settings, opened }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A client to speak with. The error names the file that is wrong.
    pub(crate) async fn one(&self) -> Result<Connection, String> {
        self.opened.one().await
    }

    /// Has the next call open a client anew, unless that was done meanwhile.
    pub(crate) fn leave(&self, connection: &Connection) {
        self.opened.leave(connection);
    }
}
