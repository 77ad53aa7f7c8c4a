//! What stands for images: programs of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Programs of this machine, by names of images.
#[derive(Clone, Debug)]
pub(super) struct Images {
    usual: Image,
    others: BTreeMap<String, Image>,
}

/// Programs, each at `/NAME` of a container; the first is what it runs.
#[derive(Clone, Debug, Default)]
pub struct Image(Vec<Program>);

#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Images {
    /// One program stands for every image.
    pub(super) fn of(program: &Path) -> Self {
        Self { usual: Image::of("banyan", program), others: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, name: &str, image: Image) {
        self.others.insert(name.to_owned(), image);
    }

    /// What stands for the image of a container.
    pub(super) fn image_of(&self, container: &Value) -> &Image {
        let name = container.get("image").and_then(Value::as_str).unwrap_or_default();
        self.others.get(name).unwrap_or(&self.usual)
    }
}

impl Image {
    /// An image with this program.
    #[must_use]
    pub fn of(name: &str, path: &Path) -> Self {
        Self::default().with(name, path)
    }

    /// The same with a program more.
    #[must_use]
    pub fn with(mut self, name: &str, path: &Path) -> Self {
        self.0.push(Program { name: name.to_owned(), path: path.to_owned() });
        self
    }

    pub(super) fn programs(&self) -> &[Program] {
        &self.0
    }
}
