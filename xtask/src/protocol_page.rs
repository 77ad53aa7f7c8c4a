//! The reference of the plugin protocol, written from the comments of its proto file.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, source_code_info::Location,
};

const FILE: &str = "banyan/plugin/v1/plugin.proto";
/// Where the page is kept.
pub(crate) const PAGE: &str = "docs/plugins/remote-protocol.md";

/// The page for the proto files in a folder.
pub(crate) fn page(sources: &Path) -> anyhow::Result<String> {
    let mut compiler = protox::Compiler::new([sources])?;
    compiler.include_source_info(true).open_file(FILE)?;
    let set = compiler.file_descriptor_set();
    let file =
        set.file.iter().find(|file| file.name() == FILE).context("the compiler lost the file")?;
    Ok(Writer { file, out: String::new() }.written())
}

struct Writer<'a> {
    file: &'a FileDescriptorProto,
    out: String,
}

impl Writer<'_> {
    fn written(mut self) -> String {
        let package = self.file.package().to_owned();
        self.add(&format!(
            "# The remote protocol `{package}`\n\n\
             Written by `cargo xtask codegen` from the comments of `proto/protos/{FILE}`, which is the specification. How a\n\
             plugin is written, tried and installed: [writing-a-plugin.md](writing-a-plugin.md)."
        ));
        let head = self.comment(&[12]);
        self.text(&head);
        for (at, service) in self.file.service.iter().enumerate() {
            self.add(&format!("## Service `{package}.{}`", service.name()));
            let said = self.comment(&[6, index(at)]);
            self.text(&said);
            for (number, method) in service.method.iter().enumerate() {
                let stream = if method.server_streaming() { "stream " } else { "" };
                let (asked, answer) = (short(method.input_type()), short(method.output_type()));
                self.add(&format!("### {}\n\n`{asked}` → {stream}`{answer}`", method.name()));
                let said = self.comment(&[6, index(at), 2, index(number)]);
                self.text(&said);
            }
        }
        self.add("## Messages");
        for (at, message) in self.file.message_type.iter().enumerate() {
            self.message(index(at), message);
        }
        for (at, kind) in self.file.enum_type.iter().enumerate() {
            self.add(&format!("### {}", kind.name()));
            let mut rows = "| number | name | meaning |\n|---|---|---|\n".to_owned();
            for (number, value) in kind.value.iter().enumerate() {
                let said = self.comment(&[5, index(at), 2, index(number)]).replace('\n', " ");
                let _ = writeln!(rows, "| {} | `{}` | {said} |", value.number(), value.name());
            }
            self.add(rows.trim_end());
        }
        format!("{}\n", self.out.trim_end())
    }

    fn message(&mut self, at: i32, message: &DescriptorProto) {
        self.add(&format!("### {}", message.name()));
        let said = self.comment(&[4, at]);
        self.text(&said);
        if message.field.is_empty() {
            self.add("No fields.");
            return;
        }
        let mut rows = "| number | field | type | meaning |\n|---|---|---|---|\n".to_owned();
        for (number, field) in message.field.iter().enumerate() {
            let said = self.comment(&[4, at, 2, index(number)]).replace('\n', " ");
            let choice = if field.oneof_index.is_some() { "one of: " } else { "" };
            let (name, kind) = (field.name(), kind(field));
            let _ = writeln!(rows, "| {} | `{name}` | {choice}{kind} | {said} |", field.number());
        }
        self.add(rows.trim_end());
    }

    fn add(&mut self, block: &str) {
        self.out.push_str(block);
        self.out.push_str("\n\n");
    }

    /// Paragraphs; those that are set out by blanks stay as they are.
    fn text(&mut self, comment: &str) {
        for paragraph in comment.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
            if paragraph.starts_with("  ") {
                self.add(&format!("```text\n{}\n```", paragraph.trim_end()));
            } else {
                self.add(paragraph.trim_end());
            }
        }
    }

    /// What is written above the thing at a path of the descriptor, without the first blank of each line.
    fn comment(&self, path: &[i32]) -> String {
        let locations = self.file.source_code_info.iter().flat_map(|info| &info.location);
        let found = locations.filter(|location: &&Location| location.path == path);
        let text: String = found.map(Location::leading_comments).collect();
        let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn index(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn kind(field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => {
            format!("[{0}](#{1})", short(field.type_name()), anchor(field))
        }
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    };
    if field.label() == Label::Repeated { format!("repeated {name}") } else { name }
}

fn anchor(field: &FieldDescriptorProto) -> String {
    short(field.type_name()).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present() -> String {
        page(&crate::repository_root().unwrap().join("proto/protos")).unwrap()
    }

    #[test]
    fn the_page_is_current() {
        let path = crate::repository_root().unwrap().join(PAGE);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == present(), "{PAGE} differs: run `cargo xtask codegen` and commit it");
    }

    #[test]
    fn the_page_has_every_call_field_and_word_of_the_file() {
        let page = present();
        for wanted in [
            "### Handshake\n\n`HandshakeRequest` → `HandshakeResponse`\n",
            "`WatchRootsRequest` → stream `RootSet`",
            "| 5 | `ttl_seconds` | int64 | How long the issuer must be good for, from now. |",
            "one of: [IssuerChain](#issuerchain)",
            "```text\n  RESOURCE_EXHAUSTED",
            "| 2 | `HEALTH_STATE_DEGRADED` |",
        ] {
            assert!(page.contains(wanted), "{wanted:?} is missing in\n{page}");
        }
    }
}
