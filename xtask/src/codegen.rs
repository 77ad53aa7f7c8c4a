//! Code generation: `.proto` files to checked-in Rust, without `protoc`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use protox::prost::Message;

use crate::protocol_page;

const SOURCES: &str = "proto/protos";
const OUTPUT: &str = "proto/src/gen";

/// Types whose `Debug` is written by hand in `proto/src/redacted.rs`, since they can hold a key or a token.
const REDACTED: [&str; 11] = [
    ".X509SVID",
    ".banyan.admin.v1.CreateTokenResponse",
    ".envoy.config.core.v3.DataSource",
    ".envoy.config.core.v3.DataSource.specifier",
    ".envoy.service.discovery.v3.DiscoveryResponse",
    ".envoy.service.discovery.v3.Resource",
    ".banyan.downstream.v1.AddDownstreamResponse",
    ".etcdserverpb.AuthenticateRequest",
    ".etcdserverpb.AuthenticateResponse",
    ".etcdserverpb.PutRequest",
    ".mvccpb.KeyValue",
];

/// Writes the checked-in code anew.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    let output = root.join(OUTPUT);
    if output.exists() {
        fs::remove_dir_all(&output).with_context(|| format!("clear {}", output.display()))?;
    }
    generate(&root.join(SOURCES), &output)?;
    let page = root.join(protocol_page::PAGE);
    let text = protocol_page::page(&root.join(SOURCES))?;
    fs::create_dir_all(root.join("docs/plugins")).context("create docs/plugins")?;
    fs::write(&page, text).with_context(|| format!("write {}", page.display()))
}

fn generate(sources: &Path, output: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(output).with_context(|| format!("create {}", output.display()))?;
    let mut files = proto_files(sources)?;
    // The order of files shows in the output, and folders are listed in any order.
    files.sort();
    let mut compiler = protox::Compiler::new([sources])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let mut descriptors = compiler.file_descriptor_set();

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com").btree_map(["."]);
    config.skip_debug(REDACTED);
    // Callers make their own channels, and `connect` would clash with the call of that name in the agent's protocol.
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(output)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors.clone(), config)
        .context("generate Rust code")?;

    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let encoded = output.join("descriptor.binpb");
    fs::write(&encoded, descriptors.encode_to_vec())
        .with_context(|| format!("write {}", encoded.display()))
}

fn proto_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn codegen_is_current() {
        let root = crate::repository_root().unwrap();
        let fresh = tempfile::tempdir().unwrap();
        generate(&root.join(SOURCES), fresh.path()).unwrap();
        let (fresh, present) = (contents(fresh.path()), contents(&root.join(OUTPUT)));
        assert_eq!(
            fresh.keys().collect::<Vec<_>>(),
            present.keys().collect::<Vec<_>>(),
            "run `cargo xtask codegen` and commit {OUTPUT}"
        );
        for (name, content) in fresh {
            let same = present.get(&name) == Some(&content);
            assert!(same, "{OUTPUT}/{name} differs: run `cargo xtask codegen` and commit it");
        }
    }

    #[test]
    fn a_changed_proto_changes_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.proto");
        let generated = |text: &str| {
            fs::write(&source, text).unwrap();
            let output = tempfile::tempdir().unwrap();
            generate(folder.path(), output.path()).unwrap();
            contents(output.path())
        };
        let before = generated("syntax = \"proto3\"; package a; message A { string name = 1; }");
        let after = generated("syntax = \"proto3\"; package a; message A { string name = 2; }");
        assert_ne!(before.get("a.rs"), after.get("a.rs"));
        assert_ne!(before.get("descriptor.binpb"), after.get("descriptor.binpb"));
    }
}
